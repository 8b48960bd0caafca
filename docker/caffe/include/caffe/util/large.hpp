#ifndef CAFFE_UTIL_LARGE_HPP_
#define CAFFE_UTIL_LARGE_HPP_

#include <string>
#include <vector>

#include "caffe/layer.hpp"
#include "caffe/net.hpp"

namespace caffe {

/**
 * CAFFE_ENGINE's part `large`: what nets gain from whose maps or weights take
 * hundreds of megabytes. Smaller nets compute as they do without it, bit for
 * bit.
 *
 * - BatchNorm with the statistics of the batch keeps one map where Caffe keeps
 *   four, its Scale none (PairNorms).
 * - The gradient of an inner product's weights over a few rows is never stored:
 *   SGD makes each number of it when it changes that weight (DeferGradient,
 *   DescendProduct). Few rows are multiplied with all weights in one pass.
 * - Snapshots are written blob by blob (WriteNet, WriteState).
 *
 * Each function but PairNorms returns whether it has done so. It has not where
 * the part is not in use, and never for double: the caller then goes on as
 * Caffe does.
 */
namespace large {

/// Has each BatchNorm in place that learns, and the Scale in place that follows
/// it, keep their maps as above, where the maps of all of them are many. Needs
/// the part `elementwise`.
void PairNorms(const vector<shared_ptr<Layer<float> > >& layers,
    const vector<vector<Blob<float>*> >& bottoms,
    const vector<vector<Blob<float>*> >& tops);
inline void PairNorms(const vector<shared_ptr<Layer<double> > >&,
    const vector<vector<Blob<double>*> >&,
    const vector<vector<Blob<double>*> >&) {}

/// Inner products of `rows` vectors of `inputs` numbers.
struct Product {
  int rows, outputs, inputs;
  bool transpose;
};

/// top = bottom times weight, plus bias unless that is NULL.
bool Multiply(const Product& product, const Blob<float>& bottom,
    const Blob<float>& weight, const Blob<float>* bias, Blob<float>* top);
/// The diff of bottom.
bool MultiplyBackward(const Product& product, const Blob<float>& top,
    const Blob<float>& weight, Blob<float>* bottom);
/// Has the diff of weight computed when somebody asks for it.
bool DeferGradient(const Product& product, const Blob<float>& top,
    const Blob<float>& bottom, Blob<float>* weight);
/// elementwise::Descend for a parameter whose gradient is deferred.
bool DescendProduct(float rate, float momentum, float decay,
    Blob<float>* parameter, Blob<float>* history);

/// The files of a snapshot, byte for byte as Caffe writes them.
bool WriteNet(const Net<float>& net, const string& filename);
bool WriteState(int iteration, const string& learned_net, int current_step,
    const vector<shared_ptr<Blob<float> > >& history, const string& filename);

inline bool Multiply(const Product&, const Blob<double>&, const Blob<double>&,
    const Blob<double>*, Blob<double>*) { return false; }
inline bool MultiplyBackward(const Product&, const Blob<double>&,
    const Blob<double>&, Blob<double>*) { return false; }
inline bool DeferGradient(const Product&, const Blob<double>&,
    const Blob<double>&, Blob<double>*) { return false; }
inline bool WriteNet(const Net<double>&, const string&) { return false; }
inline bool WriteState(int, const string&, int,
    const vector<shared_ptr<Blob<double> > >&, const string&) { return false; }

}  // namespace large
}  // namespace caffe

#endif  // CAFFE_UTIL_LARGE_HPP_
