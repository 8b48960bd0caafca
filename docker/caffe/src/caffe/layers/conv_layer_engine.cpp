// Which convolutions the engine's parts `onednn` and `grouped` compute: the
// first, those of one group over two axes; the second, those with one channel a
// group whose kernels cover the map. Both are for float on the CPU.

#include <type_traits>
#include <vector>

#include "caffe/layers/conv_layer.hpp"
#include "caffe/util/engine.hpp"

namespace caffe {

template <typename Dtype>
bool ConvolutionLayer<Dtype>::PrepareOneDNN(const Blob<Dtype>& bottom) {
  if (!std::is_same<Dtype, float>::value || this->group_ != 1 ||
      this->num_spatial_axes_ != 2 || this->channel_axis_ != 1 ||
      bottom.count() == 0) {
    return false;
  }
  ConvolutionSizes sizes;
  sizes.num = this->num_;
  sizes.channels = this->channels_;
  sizes.num_output = this->num_output_;
  sizes.bias = this->bias_term_;
  sizes.only_forward = this->layer_param_.phase() == TEST;
  for (int i = 0; i < 2; ++i) {
    sizes.input[i] = bottom.shape(2 + i);
    sizes.output[i] = this->output_shape_[i];
    sizes.kernel[i] = this->kernel_shape_.cpu_data()[i];
    sizes.stride[i] = this->stride_.cpu_data()[i];
    sizes.pad[i] = this->pad_.cpu_data()[i];
    sizes.dilation[i] = this->dilation_.cpu_data()[i];
  }
  return onednn_.Prepare(sizes);
}

template <typename Dtype>
bool ConvolutionLayer<Dtype>::UsesGrouped() {
  if (!std::is_same<Dtype, float>::value || this->group_ == 1 ||
      this->group_ != this->channels_ || this->out_spatial_dim_ != 1 ||
      !engine::enabled(engine::GROUPED)) {
    return false;
  }
  for (int i = 0; i < this->num_spatial_axes_; ++i) {
    if (this->kernel_shape_.cpu_data()[i] != this->input_shape(i + 1) ||
        this->pad_.cpu_data()[i] != 0 ||
        this->dilation_.cpu_data()[i] != 1) {
      return false;
    }
  }
  return true;
}

template <typename Dtype>
GroupedConvolution ConvolutionLayer<Dtype>::Grouped() const {
  const GroupedConvolution grouped = { this->num_, this->group_,
      this->num_output_ / this->group_, this->blobs_[0]->count(1) };
  return grouped;
}

template <typename Dtype>
bool ConvolutionLayer<Dtype>::ForwardEngine(
    const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top,
    const ConvolutionEpilogue& epilogue) {
  const Blob<Dtype>& weight = *this->blobs_[0];
  const Blob<Dtype>* bias = this->bias_term_ ? this->blobs_[1].get() : NULL;
  if (PrepareOneDNN(*bottom[0])) {
    for (int i = 0; i < bottom.size(); ++i) {
      onednn_.Forward(*bottom[i], weight, bias, top[i], epilogue);
    }
    return true;
  }
  if (!UsesGrouped()) { return false; }
  for (int i = 0; i < bottom.size(); ++i) {
    Grouped().Forward(*bottom[i], weight, bias, top[i]);
  }
  return true;
}

template <typename Dtype>
bool ConvolutionLayer<Dtype>::BackwardEngine(const vector<Blob<Dtype>*>& top,
    const vector<bool>& propagate_down, const vector<Blob<Dtype>*>& bottom) {
  const bool weight_learns = this->param_propagate_down_[0];
  const bool bias_learns =
      this->bias_term_ && this->param_propagate_down_[1];
  Blob<Dtype>* weight = this->blobs_[0].get();
  Blob<Dtype>* bias = bias_learns ? this->blobs_[1].get() : NULL;
  // oneDNN has no gradient of the bias alone.
  if ((weight_learns || !bias_learns) && PrepareOneDNN(*bottom[0])) {
    for (int i = 0; i < top.size(); ++i) {
      if (weight_learns) {
        onednn_.BackwardWeight(*top[i], *bottom[i], weight, bias);
      }
      if (propagate_down[i]) {
        onednn_.BackwardBottom(*top[i], *weight, bottom[i]);
      }
    }
    return true;
  }
  if (!UsesGrouped()) { return false; }
  for (int i = 0; i < top.size(); ++i) {
    Grouped().Backward(*top[i], propagate_down[i], weight_learns, bottom[i],
        weight, bias);
  }
  return true;
}

#define INSTANTIATE_CONVOLUTION_ENGINE(Dtype) \
  template bool ConvolutionLayer<Dtype>::PrepareOneDNN(const Blob<Dtype>&); \
  template bool ConvolutionLayer<Dtype>::UsesGrouped(); \
  template GroupedConvolution ConvolutionLayer<Dtype>::Grouped() const; \
  template bool ConvolutionLayer<Dtype>::ForwardEngine( \
      const vector<Blob<Dtype>*>&, const vector<Blob<Dtype>*>&, \
      const ConvolutionEpilogue&); \
  template bool ConvolutionLayer<Dtype>::BackwardEngine( \
      const vector<Blob<Dtype>*>&, const vector<bool>&, \
      const vector<Blob<Dtype>*>&)

INSTANTIATE_CONVOLUTION_ENGINE(float);
INSTANTIATE_CONVOLUTION_ENGINE(double);

}  // namespace caffe
