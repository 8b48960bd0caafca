#ifndef CAFFE_UTIL_ONEDNN_WINOGRAD_HPP_
#define CAFFE_UTIL_ONEDNN_WINOGRAD_HPP_
#ifdef USE_ONEDNN

#include "caffe/util/onednn_convolution.hpp"
#include "caffe/util/onednn_memory.hpp"
#include "caffe/util/winograd.hpp"

namespace caffe {
namespace onednn {

/// CAFFE_ENGINE's part `winograd`: a 3 x 3 convolution in two thirds of the
/// time, where nothing learns. Its products are oneDNN's.
class Winograd {
 public:
  /// Whether a convolution is of this kind, and this is faster.
  static bool Suits(const ConvolutionSizes& sizes);

  /// Throws dnnl::error where oneDNN has no such product.
  explicit Winograd(const ConvolutionSizes& sizes);

  /// How Forward reads the weights, and how they are made of weights in blocks.
  const Descriptor& weights() const { return weights_; }
  void MakeWeights(const dnnl::memory& blocked, const dnnl::memory& made) const;

  /// Maps lie in blocks.
  void Forward(const float* bottom, const void* weights,
      const winograd::Epilogue& epilogue, float* top);

 private:
  const int pad_[2], passes_;
  const winograd::Tiles bottom_, top_;
  Descriptor from_, weights_, to_;
  dnnl::matmul product_;
};

}  // namespace onednn
}  // namespace caffe

#endif  // USE_ONEDNN
#endif  // CAFFE_UTIL_ONEDNN_WINOGRAD_HPP_
