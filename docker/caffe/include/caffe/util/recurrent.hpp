#ifndef CAFFE_UTIL_RECURRENT_HPP_
#define CAFFE_UTIL_RECURRENT_HPP_

#include <type_traits>
#include <vector>

#include "caffe/blob.hpp"
#include "caffe/util/engine.hpp"
#include "caffe/util/math_functions.hpp"

namespace caffe {

/**
 * CAFFE_ENGINE's part `recurrent`: an LSTM computes its sequence in a few large
 * passes instead of ten layers a step, with gates by vectors; matrix products
 * of sequences are oneDNN's where the part `onednn` is in use, too.
 *
 * Stock Caffe computes a step's five exponentials a unit in double, one at a
 * time, and adds to the recurrent weights' gradient in each step. In float
 * only; for double every function declines.
 */
namespace recurrent {

template <typename Dtype>
inline bool enabled() {
  return std::is_same<Dtype, float>::value &&
      engine::enabled(engine::RECURRENT);
}

/// As caffe_cpu_gemm, which it is where oneDNN is not in use.
void Multiply(CBLAS_TRANSPOSE a_is, CBLAS_TRANSPOSE b_is, int m, int n, int k,
    float factor, const float* a, const float* b, float kept, float* c);

/// What an InnerProduct layer multiplies with, by its axis: the products of
/// sequences (axis 2) belong to this part, all others stay as they are.
template <typename Dtype>
struct Product {
  typedef void (*Function)(CBLAS_TRANSPOSE, CBLAS_TRANSPOSE, int, int, int,
      Dtype, const Dtype*, const Dtype*, Dtype, Dtype*);
  static Function OfAxis(int axis);
};
template <> Product<float>::Function Product<float>::OfAxis(int axis);
template <> Product<double>::Function Product<double>::OfAxis(int axis);

/// One step of an LSTM for `rows` rows of `width` units. x: the gates' inputs
/// (rows x 4 width: i, f, o, g), to which bias is added unless NULL. gates: i,
/// f * cont, o and g, for UnitBackward; may be x.
void UnitForward(int rows, int width, const float* cont, const float* c_prev,
    const float* x, const float* bias, float* gates, float* c, float* h);

/// Gradients of c_prev and x. dh of a row has cont_next * dh_next added to it,
/// unless dh_next is NULL. dc_prev may be dc.
void UnitBackward(int rows, int width, const float* c_prev, const float* gates,
    const float* c, const float* dc, const float* dh, const float* cont_next,
    const float* dh_next, float* dc_prev, float* dx);

/// The same for the layer LSTMUnit; false: the caller computes as Caffe does.
bool UnitForward(const vector<Blob<float>*>& bottom,
    const vector<Blob<float>*>& top, Blob<float>* gates);
bool UnitBackward(const vector<Blob<float>*>& top,
    const vector<Blob<float>*>& bottom, const Blob<float>& gates);
inline bool UnitForward(const vector<Blob<double>*>&,
    const vector<Blob<double>*>&, Blob<double>*) {
  return false;
}
inline bool UnitBackward(const vector<Blob<double>*>&,
    const vector<Blob<double>*>&, const Blob<double>&) {
  return false;
}

/// What an LSTM layer without a static input consists of. x: T x N x ...,
/// cont: T x N, h: T x N x D, the memory before and behind: 1 x N x D each.
template <typename Dtype>
struct LSTMParts {
  Blob<Dtype>* x;
  const Blob<Dtype>* cont;
  Blob<Dtype>*input_weight, *bias, *recurrent_weight;
  const Blob<Dtype>*first_h, *first_c;
  Blob<Dtype>*h, *last_h, *last_c;
};

/// The passes of one LSTM layer, with what one leaves for the next.
class LSTMPasses {
 public:
  bool Forward(const LSTMParts<float>& lstm);
  /// Adds to the weights' gradients, and writes that of x if propagate_down.
  /// As in Caffe nothing flows into the memory before the sequence.
  bool Backward(const LSTMParts<float>& lstm, bool propagate_down);

  bool Forward(const LSTMParts<double>&) { return false; }
  bool Backward(const LSTMParts<double>&, bool) { return false; }

 private:
  bool Remembers(const LSTMParts<float>& lstm, int step) const;
  Blob<float> gates_;       // T x N x 4 D
  Blob<float> cells_;       // T x N x D; diff: that of one step, 1 x N x D
  Blob<float> turned_;      // D x 4 D: the recurrent weights
  Blob<float> remembered_;  // T x N x D: cont * h of the step before
};

}  // namespace recurrent
}  // namespace caffe

#endif  // CAFFE_UTIL_RECURRENT_HPP_
