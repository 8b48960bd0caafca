// The passes of a convolution: the numbers that its primitives read and write.
#ifdef USE_ONEDNN
#include <unordered_map>

#include "caffe/util/onednn_primitives.hpp"

namespace caffe {
namespace onednn {

namespace {

typedef std::unordered_map<int, dnnl::memory> Arguments;

int OperationArgument(int operation) {
  return DNNL_ARG_ATTR_MULTIPLE_POST_OP(operation) | DNNL_ARG_SRC_1;
}

}  // namespace

void Primitives::Forward(const Blob<float>& bottom, const Blob<float>& weight,
    const Blob<float>* bias, const ConvolutionEpilogue& epilogue,
    KeptWeights* kept, Blob<float>* top) {
  const Fused& last = PrepareForward(epilogue, parts_ > 1);
  const dnnl::memory from = bottom_.Read(bottom, false, last.bottom, BOTTOM);
  const dnnl::memory weights = parts_ > 1 ? WeightsByChannel(weight) :
      kept->Read(weight, weight_, last.weight);
  dnnl::memory addend;
  if (epilogue.addend) {
    addend = top_.Read(*epilogue.addend, false, last.top, TOP);
  }
  const dnnl::memory result = top_.Write(top, false, last.top);
  for (int pass = 0; pass < images_ * parts_; ++pass) {
    const int image = pass / parts_, part = pass % parts_;
    const bool adds = part > 0, ends = part + 1 == parts_;
    const Fused& forward =
        ends ? last : PrepareForward(ConvolutionEpilogue(), adds);
    const Descriptor written = forward.description.dst_desc();
    Arguments arguments;
    arguments[DNNL_ARG_SRC] = As(forward.description.src_desc(), from, pass);
    arguments[DNNL_ARG_WEIGHTS] =
        As(forward.description.weights_desc(), weights, part);
    int operation = adds ? 1 : 0;
    if (ends && epilogue.factor) {
      arguments[OperationArgument(operation++)] =
          Wrap(by_channel_, epilogue.factor);
      arguments[OperationArgument(operation++)] =
          Wrap(by_channel_, epilogue.shift);
    }
    if (ends && epilogue.addend) {
      arguments[OperationArgument(operation)] = As(written, addend, image);
    }
    if (sizes_.bias && !adds) {
      arguments[DNNL_ARG_BIAS] = Wrap(bias_, bias->cpu_data());
    }
    arguments[DNNL_ARG_DST] = As(written, result, image);
    forward.primitive.execute(Stream(), arguments);
  }
  top_.Written(result, top, false);
}

void Primitives::BackwardBottom(const Blob<float>& top,
    const Blob<float>& weight, Blob<float>* bottom) {
  PrepareBackwardBottom();
  Arguments arguments;
  arguments[DNNL_ARG_DIFF_DST] = top_.Read(top, true,
      backward_bottom_description_.diff_dst_desc(), TOP);
  arguments[DNNL_ARG_WEIGHTS] =
      InLayout(backward_bottom_description_.weights_desc(),
          weight_.Newest(weight), WEIGHT);
  const dnnl::memory result = bottom_.Write(bottom, true,
      backward_bottom_description_.diff_src_desc());
  arguments[DNNL_ARG_DIFF_SRC] = result;
  backward_bottom_.execute(Stream(), arguments);
  bottom_.Written(result, bottom, true);
}

void Primitives::BackwardWeight(const Blob<float>& top,
    const Blob<float>& bottom, Blob<float>* weight, Blob<float>* bias) {
  PrepareBackwardWeight();
  Arguments arguments;
  arguments[DNNL_ARG_SRC] = bottom_.Read(bottom, false,
      backward_weight_description_.src_desc(), BOTTOM);
  arguments[DNNL_ARG_DIFF_DST] = top_.Read(top, true,
      backward_weight_description_.diff_dst_desc(), TOP);
  const Descriptor layout = backward_weight_description_.diff_weights_desc();
  const bool direct = weight_.TakesGradient(layout, *weight);
  const dnnl::memory result = direct ? Wrap(layout,
      weight->diff()->overwritten_blocked_cpu_data(weight_.layout)) :
      ScratchMemory(layout, WEIGHT);
  arguments[DNNL_ARG_DIFF_WEIGHTS] = result;
  dnnl::memory bias_result;
  if (sizes_.bias) {
    bias_result = ScratchMemory(bias_, BIAS);
    arguments[DNNL_ARG_DIFF_BIAS] = bias_result;
  }
  backward_weight_.execute(Stream(), arguments);
  if (!direct) { weight_.Add(result, weight); }
  if (bias) { AddToDiff(bias_result, bias_, bias); }
}

}  // namespace onednn
}  // namespace caffe
#endif  // USE_ONEDNN
