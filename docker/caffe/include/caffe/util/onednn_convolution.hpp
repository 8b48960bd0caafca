#ifndef CAFFE_UTIL_ONEDNN_CONVOLUTION_HPP_
#define CAFFE_UTIL_ONEDNN_CONVOLUTION_HPP_

#include "caffe/blob.hpp"

namespace caffe {

namespace onednn {
class KeptWeights;
class Primitives;
}  // namespace onednn

/// Sizes of a two-dimensional convolution of one group, as Caffe names them;
/// pairs are height and width.
struct ConvolutionSizes {
  int num, channels, num_output;
  int input[2], output[2], kernel[2], stride[2], pad[2], dilation[2];
  bool bias;
  bool only_forward;  // nothing learns by it: it may be computed otherwise
  bool operator==(const ConvolutionSizes& other) const;
};

/// What a convolution does to its output before it is written: output * factor
/// + shift by channel, plus the blob `addend`, and the positive part of it.
/// half: it may be kept as bf16 where the convolution multiplies that.
struct ConvolutionEpilogue {
  ConvolutionEpilogue()
      : factor(NULL), shift(NULL), addend(NULL), relu(false), half(false) {}
  const float* factor;  // with shift, or neither
  const float* shift;
  const Blob<float>* addend;
  bool relu, half;
};

/**
 * @brief Computes one Convolution layer with oneDNN.
 *
 * Blobs whose channels a block divides are read and written in the blocked
 * layout, so that nothing is converted between one such layer and the next.
 */
class OneDNNConvolution {
 public:
  OneDNNConvolution();
  ~OneDNNConvolution();

  /// Prepares for these sizes. False where oneDNN is not asked for, is not
  /// compiled in or has no such convolution: the caller computes by itself.
  bool Prepare(const ConvolutionSizes& sizes);

  void Forward(const Blob<float>& bottom, const Blob<float>& weight,
      const Blob<float>* bias, Blob<float>* top,
      const ConvolutionEpilogue& epilogue = ConvolutionEpilogue());
  /// Writes the diff of bottom.
  void BackwardBottom(const Blob<float>& top, const Blob<float>& weight,
      Blob<float>* bottom);
  /// Adds to the diffs of weight and, unless it is NULL, of bias.
  void BackwardWeight(const Blob<float>& top, const Blob<float>& bottom,
      Blob<float>* weight, Blob<float>* bias);

  /// oneDNN computes in single precision: nobody calls these.
  void Forward(const Blob<double>&, const Blob<double>&, const Blob<double>*,
      Blob<double>*, const ConvolutionEpilogue&) { NOT_IMPLEMENTED; }
  void BackwardBottom(const Blob<double>&, const Blob<double>&,
      Blob<double>*) { NOT_IMPLEMENTED; }
  void BackwardWeight(const Blob<double>&, const Blob<double>&, Blob<double>*,
      Blob<double>*) { NOT_IMPLEMENTED; }

 private:
  vector<shared_ptr<onednn::Primitives> > prepared_;
  onednn::Primitives* current_;
  shared_ptr<onednn::KeptWeights> weights_;

  DISABLE_COPY_AND_ASSIGN(OneDNNConvolution);
};

}  // namespace caffe

#endif  // CAFFE_UTIL_ONEDNN_CONVOLUTION_HPP_
