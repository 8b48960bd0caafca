#ifdef USE_ONEDNN
#include "caffe/util/onednn_primitives.hpp"

#include <boost/make_shared.hpp>

#include <cfloat>
#include <string>

namespace caffe {
namespace onednn {

namespace {

// The direct algorithm: bit for bit the same for each run.
const dnnl::algorithm kDirect = dnnl::algorithm::convolution_direct;

// Whether oneDNN only has its plain loops, which are far slower than ours.
bool IsReference(const dnnl::primitive_desc_base& description) {
  return std::string(description.impl_info_str()).find("ref") == 0;
}

}  // namespace

Primitives::Primitives(const ConvolutionSizes& s, bool half)
    : sizes_(s), half_(half), bottom_(s.num, s.channels, s.input, half),
      top_(s.num, s.num_output, s.output, half),
      weight_(s), bias_({s.num_output}, kFloat, Tag::x),
      by_channel_({1, s.num_output, 1, 1}, kFloat, Tag::nchw),
      any_weight_(weight_.ordered.get_dims(), half ? kHalf : kFloat, Tag::any),
      weight_made_(weight_.ordered.get_dims(), kFloat, Tag::any),
      stride_({s.stride[0], s.stride[1]}),
      dilation_({s.dilation[0] - 1, s.dilation[1] - 1}),
      pad_begin_({s.pad[0], s.pad[1]}), images_(1), parts_(1), seen_(false),
      seen_bottom_(bottom_.read), seen_weight_(any_weight_),
      seen_top_(top_.made) {
  for (int i = 0; i < 2; ++i) {
    const int extent = s.dilation[i] * (s.kernel[i] - 1) + 1;
    pad_end_.push_back((s.output[i] - 1) * s.stride[i] + extent - s.input[i] -
        s.pad[i]);
  }
  forward_description_ =
      DescribeForward(dnnl::primitive_attr(), s.bias, seen_top_);
  if (half) {
    RequireHalf();
    return;
  }
  hint_ = forward_description_;
  if (Winograd::Suits(s)) { winograd_ = boost::make_shared<Winograd>(s); }
  if (ChannelBlock() == 16 && top_.has_block) {
    SeeRows();
    SeeChannels();
  }
}

// Prepares all passes, and refuses those for which oneDNN has no bf16.
void Primitives::RequireHalf() {
  bool reference = IsReference(forward_description_);
  if (!reference) {
    // oneDNN pairs passes by the type of what both have.
    hint_ = DescribeForward(dnnl::primitive_attr(), false, top_.read);
    PrepareBackwardBottom();
    PrepareBackwardWeight();
    reference = IsReference(backward_bottom_description_) ||
        IsReference(backward_weight_description_);
  }
  if (reference) {
    throw dnnl::error(dnnl_unimplemented, "no kernel for bf16");
  }
}

dnnl::convolution_forward::primitive_desc Primitives::DescribeForward(
    const dnnl::primitive_attr& attributes, bool with_bias,
    const Descriptor& made) const {
  return dnnl::convolution_forward::primitive_desc(Engine(),
      dnnl::prop_kind::forward_training, kDirect, seen_bottom_, seen_weight_,
      with_bias ? bias_ : Descriptor(), made, stride_, dilation_, pad_begin_,
      pad_end_, attributes);
}

Primitives::Fused& Primitives::PrepareForward(
    const ConvolutionEpilogue& epilogue, bool adds) {
  const bool halves = half_ && epilogue.half;
  Fused& fused = forward_[(epilogue.factor ? 1 : 0) +
      (epilogue.addend ? 2 : 0) + (epilogue.relu ? 4 : 0) + (adds ? 8 : 0) +
      (halves ? 16 : 0)];
  if (fused.primitive) { return fused; }
  const Descriptor& made = halves ? top_.halves : seen_top_;
  dnnl::post_ops operations;
  if (adds) { operations.append_sum(1.f); }
  if (epilogue.factor) {
    operations.append_binary(dnnl::algorithm::binary_mul, by_channel_);
    operations.append_binary(dnnl::algorithm::binary_add, by_channel_);
  }
  if (epilogue.addend) {
    operations.append_binary(dnnl::algorithm::binary_add,
        seen_ || halves ? made : forward_description_.dst_desc());
  }
  if (epilogue.relu) {
    // x * min(1, max(0, x * FLT_MAX)): oneDNN's own ReLU makes zero of what is
    // not a number, and training has to stop at that.
    operations.append_eltwise(dnnl::algorithm::eltwise_hardswish, FLT_MAX,
        0.f);
  }
  dnnl::primitive_attr attributes;
  attributes.set_post_ops(operations);
  const dnnl::convolution_forward::primitive_desc description =
      DescribeForward(attributes, sizes_.bias && !adds, made);
  fused.primitive = dnnl::convolution_forward(description);
  fused.from = description.src_desc();
  fused.weights = description.weights_desc();
  fused.to = description.dst_desc();
  fused.bottom = seen_ ? bottom_.kept() : fused.from;
  fused.weight = seen_ ? weight_.blocked : fused.weights;
  fused.top = seen_ ? top_.kept() : fused.to;
  return fused;
}

void Primitives::PrepareBackwardBottom() {
  if (backward_bottom_) { return; }
  backward_bottom_description_ =
      dnnl::convolution_backward_data::primitive_desc(Engine(), kDirect,
          bottom_.made, any_weight_, top_.read, stride_, dilation_, pad_begin_,
          pad_end_, hint_);
  backward_bottom_ = dnnl::convolution_backward_data(
      backward_bottom_description_);
}

void Primitives::PrepareBackwardWeight() {
  if (backward_weight_) { return; }
  backward_weight_description_ =
      dnnl::convolution_backward_weights::primitive_desc(Engine(), kDirect,
          bottom_.read, weight_made_, sizes_.bias ? bias_ : Descriptor(),
          top_.read, stride_, dilation_, pad_begin_, pad_end_, hint_);
  backward_weight_ = dnnl::convolution_backward_weights(
      backward_weight_description_);
}

}  // namespace onednn
}  // namespace caffe
#endif  // USE_ONEDNN
