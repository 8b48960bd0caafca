#ifndef CAFFE_UTIL_ONEDNN_PRIMITIVES_HPP_
#define CAFFE_UTIL_ONEDNN_PRIMITIVES_HPP_
#ifdef USE_ONEDNN

#include <unordered_map>

#include "caffe/util/onednn_activations.hpp"
#include "caffe/util/onednn_convolution.hpp"
#include "caffe/util/onednn_memory.hpp"
#include "caffe/util/onednn_weights.hpp"
#include "caffe/util/onednn_winograd.hpp"

namespace caffe {
namespace onednn {

/// A convolution of one shape: what oneDNN has compiled for it, the backward
/// pass when it is needed, and its passes.
class Primitives {
 public:
  /// half: bf16 is multiplied, and summed up in float. Throws dnnl::error where
  /// oneDNN cannot compute this, or not all passes of it.
  Primitives(const ConvolutionSizes& sizes, bool half);

  const ConvolutionSizes& sizes() const { return sizes_; }

  // As OneDNNConvolution has them (onednn_passes.cpp).
  void Forward(const Blob<float>& bottom, const Blob<float>& weight,
      const Blob<float>* bias, const ConvolutionEpilogue& epilogue,
      KeptWeights* kept, Blob<float>* top);
  void BackwardBottom(const Blob<float>& top, const Blob<float>& weight,
      Blob<float>* bottom);
  void BackwardWeight(const Blob<float>& top, const Blob<float>& bottom,
      Blob<float>* weight, Blob<float>* bias);

 private:
  // The forward pass with an epilogue; what its primitive reads and writes, and
  // how these lie outside of it. The arguments are made once: for a small
  // convolution making them takes a tenth of the time.
  struct Fused {
    dnnl::convolution_forward primitive;
    Descriptor from, weights, to;
    Descriptor bottom, weight, top;
    std::unordered_map<int, dnnl::memory> arguments;

    /// The numbers of an argument: the part with this number of those at data.
    void Set(int argument, const Descriptor& descriptor, const void* data,
        int part = 0);
  };
  // adds: to what is there, instead of the bias.
  Fused& PrepareForward(const ConvolutionEpilogue& epilogue, bool adds);
  void PrepareBackwardBottom();
  void PrepareBackwardWeight();
  void RequireHalf();
  dnnl::convolution_forward::primitive_desc DescribeForward(
      const dnnl::primitive_attr& attributes, bool with_bias,
      const Descriptor& made) const;

  // The forward pass as another one that rounds less (onednn_rounding.cpp).
  void SeeRows();
  void SeeChannels();
  const void* WeightsByChannel(const Blob<float>& weight) const;
  void ForwardWinograd(const Blob<float>& bottom, const Blob<float>& weight,
      const Blob<float>* bias, const ConvolutionEpilogue& epilogue,
      KeptWeights* kept, Blob<float>* top);

  const ConvolutionSizes sizes_;
  const bool half_;
  const Activations bottom_, top_;
  const WeightLayouts weight_;
  const Descriptor bias_, by_channel_, any_weight_, weight_made_;
  const dnnl::memory::dims stride_, dilation_, pad_begin_;
  dnnl::memory::dims pad_end_;
  int images_, parts_;  // passes, where each is of one image and channel
  bool seen_;           // by SeeRows or SeeChannels
  Descriptor seen_bottom_, seen_weight_, seen_top_;
  dnnl::convolution_forward::primitive_desc forward_description_, hint_;
  Fused forward_[32];
  shared_ptr<Winograd> winograd_;  // what computes forward instead, or none
  dnnl::convolution_backward_data::primitive_desc backward_bottom_description_;
  dnnl::convolution_backward_data backward_bottom_;
  dnnl::convolution_backward_weights::primitive_desc
      backward_weight_description_;
  dnnl::convolution_backward_weights backward_weight_;
};

}  // namespace onednn
}  // namespace caffe

#endif  // USE_ONEDNN
#endif  // CAFFE_UTIL_ONEDNN_PRIMITIVES_HPP_
