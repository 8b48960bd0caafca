// The passes of a convolution: the numbers that its primitives read and write.
#ifdef USE_ONEDNN
#include "caffe/util/onednn_primitives.hpp"

namespace caffe {
namespace onednn {

namespace {

typedef std::unordered_map<int, dnnl::memory> Arguments;

int OperationArgument(int operation) {
  return DNNL_ARG_ATTR_MULTIPLE_POST_OP(operation) | DNNL_ARG_SRC_1;
}

void Copy(const dnnl::memory& from, const dnnl::memory& to) {
  Reorder(from, to);
}

}  // namespace

void Primitives::Fused::Set(int argument, const Descriptor& descriptor,
    const void* data, int part) {
  char* const numbers = static_cast<char*>(const_cast<void*>(data)) +
      (part ? part * descriptor.get_size() : 0);
  dnnl::memory& memory = arguments[argument];
  if (memory) {
    memory.set_data_handle(numbers);
  } else {
    memory = Wrap(descriptor, numbers);
  }
}

void Primitives::Forward(const Blob<float>& bottom, const Blob<float>& weight,
    const Blob<float>* bias, const ConvolutionEpilogue& epilogue,
    KeptWeights* kept, Blob<float>* top) {
  if (winograd_) {
    ForwardWinograd(bottom, weight, bias, epilogue, kept, top);
    return;
  }
  Fused& last = PrepareForward(epilogue, parts_ > 1);
  const void* const from = bottom_.Read(bottom, false, last.bottom, BOTTOM);
  const void* const weights = parts_ > 1 ? WeightsByChannel(weight) :
      kept->Read(weight, weight_, last.weight, &Copy);
  const void* const addend = epilogue.addend ?
      top_.Read(*epilogue.addend, false, last.top, TOP) : NULL;
  void* const result = top_.Write(top, false, last.top);
  for (int pass = 0; pass < images_ * parts_; ++pass) {
    const int image = pass / parts_, part = pass % parts_;
    const bool adds = part > 0, ends = part + 1 == parts_;
    Fused& forward =
        ends ? last : PrepareForward(ConvolutionEpilogue(), adds);
    forward.Set(DNNL_ARG_SRC, forward.from, from, pass);
    forward.Set(DNNL_ARG_WEIGHTS, forward.weights, weights, part);
    int operation = adds ? 1 : 0;
    if (ends && epilogue.factor) {
      forward.Set(OperationArgument(operation++), by_channel_,
          epilogue.factor);
      forward.Set(OperationArgument(operation++), by_channel_,
          epilogue.shift);
    }
    if (ends && epilogue.addend) {
      forward.Set(OperationArgument(operation), forward.to, addend, image);
    }
    if (sizes_.bias && !adds) {
      forward.Set(DNNL_ARG_BIAS, bias_, bias->cpu_data());
    }
    forward.Set(DNNL_ARG_DST, forward.to, result, image);
    forward.primitive.execute(Stream(), forward.arguments);
  }
  top_.Written(last.top, result, top, false);
}

void Primitives::ForwardWinograd(const Blob<float>& bottom,
    const Blob<float>& weight, const Blob<float>* bias,
    const ConvolutionEpilogue& epilogue, KeptWeights* kept, Blob<float>* top) {
  const void* const from = bottom_.Read(bottom, false, bottom_.blocked, BOTTOM);
  const void* const addend = epilogue.addend ?
      top_.Read(*epilogue.addend, false, top_.blocked, TOP) : NULL;
  const void* const weights = kept->Read(weight, weight_, winograd_->weights(),
      [this](const dnnl::memory& values, const dnnl::memory& made) {
        winograd_->MakeWeights(InLayout(weight_.blocked, values, PRODUCTS),
            made);
      });
  const winograd::Epilogue rest = {sizes_.bias ? bias->cpu_data() : NULL,
      epilogue.factor, epilogue.shift, static_cast<const float*>(addend),
      epilogue.relu};
  void* const result = top_.Write(top, false, top_.blocked);
  winograd_->Forward(static_cast<const float*>(from), weights, rest,
      static_cast<float*>(result));
  top_.Written(top_.blocked, result, top, false);
}

void Primitives::BackwardBottom(const Blob<float>& top,
    const Blob<float>& weight, Blob<float>* bottom) {
  PrepareBackwardBottom();
  Arguments arguments;
  const Descriptor read = backward_bottom_description_.diff_dst_desc();
  arguments[DNNL_ARG_DIFF_DST] =
      Wrap(read, top_.Read(top, true, read, TOP));
  arguments[DNNL_ARG_WEIGHTS] =
      InLayout(backward_bottom_description_.weights_desc(),
          weight_.Newest(weight), WEIGHT);
  const Descriptor made = backward_bottom_description_.diff_src_desc();
  void* const result = bottom_.Write(bottom, true, made);
  arguments[DNNL_ARG_DIFF_SRC] = Wrap(made, result);
  backward_bottom_.execute(Stream(), arguments);
  bottom_.Written(made, result, bottom, true);
}

void Primitives::BackwardWeight(const Blob<float>& top,
    const Blob<float>& bottom, Blob<float>* weight, Blob<float>* bias) {
  PrepareBackwardWeight();
  Arguments arguments;
  const Descriptor from = backward_weight_description_.src_desc();
  const Descriptor with = backward_weight_description_.diff_dst_desc();
  arguments[DNNL_ARG_SRC] =
      Wrap(from, bottom_.Read(bottom, false, from, BOTTOM));
  arguments[DNNL_ARG_DIFF_DST] = Wrap(with, top_.Read(top, true, with, TOP));
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
