#ifndef CAFFE_UTIL_ELEMENTWISE_LAYERS_HPP_
#define CAFFE_UTIL_ELEMENTWISE_LAYERS_HPP_

#include <vector>

#include "caffe/blob.hpp"
#include "caffe/proto/caffe.pb.h"
#include "caffe/util/elementwise.hpp"

namespace caffe {

/**
 * What layers and solvers compute with the kernels of elementwise.hpp: a pass
 * over blobs in the layout in which their numbers lie.
 *
 * Each function returns whether it has done so. It has not where the engine's
 * part `elementwise` is not in use, where it has no kernel for what is asked,
 * and never for double: the caller then computes as Caffe does.
 */
namespace elementwise {

bool ReLUForward(const Blob<float>& bottom, float slope, Blob<float>* top);
bool ReLUBackward(const Blob<float>& top, float slope, Blob<float>* bottom);

bool SigmoidForward(const Blob<float>& bottom, Blob<float>* top);
/// Over an axis that no other one follows, or only such of length 1.
bool SoftmaxForward(int axis, const Blob<float>& bottom, Blob<float>* top);

bool EltwiseForward(EltwiseParameter_EltwiseOp operation,
    const vector<float>& coefficients, const vector<Blob<float>*>& bottom,
    Blob<float>* top);
bool EltwiseBackward(EltwiseParameter_EltwiseOp operation, bool stable,
    const vector<float>& coefficients, const Blob<float>& top,
    const vector<bool>& propagate_down, const vector<Blob<float>*>& bottom);

/// Not for a single top.
bool SplitBackward(const vector<Blob<float>*>& top, Blob<float>* bottom);

/// top = (bottom - mean) * factor by channel.
bool NormalizeForward(const Blob<float>& bottom, const Blob<float>& mean,
    const Blob<float>& factor, Blob<float>* top);
bool NormalizeBackward(const Blob<float>& top, const Blob<float>& factor,
    Blob<float>* bottom);

/// The mean and the variance of each channel.
bool Moments(const Blob<float>& blob, vector<double>* mean,
    vector<double>* variance);
/// Backward through y = (x - mean) * factor, where mean and factor are those of
/// the batch: `normalized` is y. In place or not.
bool BatchNormalizeBackward(const Blob<float>& top,
    const Blob<float>& normalized, const Blob<float>& factor,
    Blob<float>* bottom);

/// One step of SGD with L2 regularization for one parameter, in the order in
/// which the gradient was computed, unless somebody looks on.
bool Descend(float rate, float momentum, float decay, Blob<float>* parameter,
    Blob<float>* history);

/// The same for all parameters on a GPU, in the engine's part `device`, where
/// the gradients are multiplied by `norm` first. rates and decays are the
/// parameters' own factors of `rate` and `decay`.
#ifdef CPU_ONLY
inline bool DescendOnDevice(const vector<Blob<float>*>&, const vector<float>&,
    const vector<float>&, const vector<shared_ptr<Blob<float> > >&, float,
    float, float, float) {
  return false;
}
#else
bool DescendOnDevice(const vector<Blob<float>*>& parameters,
    const vector<float>& rates, const vector<float>& decays,
    const vector<shared_ptr<Blob<float> > >& histories, float rate,
    float momentum, float decay, float norm);
#endif

/// What a Scale layer of one bottom consists of.
template <typename Dtype>
struct ScaleParts {
  int outer, channels, inner;
  bool by_channel;     // the channels are axis 1, the one that is blocked
  bool factor_learns, shift_learns;
  Blob<Dtype>* factor;
  Blob<Dtype>* shift;  // NULL where there is none
  Blob<Dtype>* kept;   // for an input that is overwritten
  // Where that input is as long as the bottom's data are deferred, or NULL
  Blob<Dtype>* normalized;
};

/// The passes of one Scale layer, with what one leaves for the next.
class ScalePasses {
 public:
  bool Forward(const ScaleParts<float>& layer, const Blob<float>& bottom,
      Blob<float>* top);
  bool Backward(const ScaleParts<float>& layer, const Blob<float>& top,
      bool propagate_down, Blob<float>* bottom);

  /// Backward from the output in place, which is in bottom; gated: where it is
  /// positive. Multiplies the gradient by `factor` a channel and, if
  /// propagate_down, writes it to bottom, whose layout has this block.
  void BackwardInPlace(const ScaleParts<float>& layer, const float* gradient,
      bool gated, const float* factor, bool propagate_down, int block,
      Blob<float>* bottom);
  /// Whether an input that was overwritten is kept. If it is not, then it can
  /// be recovered from the output.
  bool input_kept() const { return input_kept_; }
  /// Says that somebody else has computed the output, and kept no input.
  void ComputedElsewhere() { input_kept_ = false; }

  bool Forward(const ScaleParts<double>&, const Blob<double>&,
      Blob<double>*) { return false; }
  bool Backward(const ScaleParts<double>&, const Blob<double>&, bool,
      Blob<double>*) { return false; }

 private:
  int block_ = 1;  // the layout of what is kept, that of the data
  bool input_kept_ = true;
  bool normalized_ = false;  // the input is ScaleParts::normalized
};

/// The passes of one Pooling layer, with what one leaves for the next. Forward,
/// bf16 stays bf16, and the mask is made when the backward pass asks for it, of
/// the input as it is then.
class PoolingPasses {
 public:
  /// Whether a layer's output is made of numbers of its input, unchanged.
  static bool Chooses(PoolingParameter_PoolMethod method,
      const Window& window);

  /// Not for stochastic pooling. `mask`: where the largest number was.
  bool Forward(PoolingParameter_PoolMethod method, const Window& window,
      const Blob<float>& bottom, Blob<float>* top, Blob<int>* mask);
  bool Backward(PoolingParameter_PoolMethod method, const Window& window,
      const Blob<float>& top, Blob<int>* mask, Blob<float>* bottom);

  bool Forward(PoolingParameter_PoolMethod, const Window&, const Blob<double>&,
      Blob<double>*, Blob<int>*) { return false; }
  bool Backward(PoolingParameter_PoolMethod, const Window&,
      const Blob<double>&, Blob<int>*, Blob<double>*) { return false; }

 private:
  int block_ = 1;  // the layout of the mask, that of the data
  bool mask_made_ = true;
};

inline bool ReLUForward(const Blob<double>&, double, Blob<double>*) {
  return false;
}
inline bool ReLUBackward(const Blob<double>&, double, Blob<double>*) {
  return false;
}
inline bool SigmoidForward(const Blob<double>&, Blob<double>*) {
  return false;
}
inline bool SoftmaxForward(int, const Blob<double>&, Blob<double>*) {
  return false;
}
inline bool EltwiseForward(EltwiseParameter_EltwiseOp, const vector<double>&,
    const vector<Blob<double>*>&, Blob<double>*) {
  return false;
}
inline bool EltwiseBackward(EltwiseParameter_EltwiseOp, bool,
    const vector<double>&, const Blob<double>&, const vector<bool>&,
    const vector<Blob<double>*>&) {
  return false;
}
inline bool SplitBackward(const vector<Blob<double>*>&, Blob<double>*) {
  return false;
}
inline bool NormalizeForward(const Blob<double>&, const Blob<double>&,
    const Blob<double>&, Blob<double>*) {
  return false;
}
inline bool NormalizeBackward(const Blob<double>&, const Blob<double>&,
    Blob<double>*) {
  return false;
}
inline bool Descend(double, double, double, Blob<double>*, Blob<double>*) {
  return false;
}
inline bool DescendOnDevice(const vector<Blob<double>*>&, const vector<float>&,
    const vector<float>&, const vector<shared_ptr<Blob<double> > >&, double,
    double, double, double) {
  return false;
}

}  // namespace elementwise
}  // namespace caffe

#endif  // CAFFE_UTIL_ELEMENTWISE_LAYERS_HPP_
