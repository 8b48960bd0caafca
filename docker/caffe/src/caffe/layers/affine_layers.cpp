// What BatchNorm with stored statistics and Scale offer to those who compute
// them together with other layers: both multiply and add by channel.

#include <cmath>
#include <vector>

#include "caffe/layers/batch_norm_layer.hpp"
#include "caffe/layers/scale_layer.hpp"

namespace caffe {

template <typename Dtype>
void BatchNormLayer<Dtype>::UseStoredStatistics() {
  const Dtype weight = this->blobs_[2]->cpu_data()[0];
  const Dtype scale_factor = weight == 0 ? 0 : 1 / weight;
  const Dtype* stored_mean = this->blobs_[0]->cpu_data();
  const Dtype* stored_variance = this->blobs_[1]->cpu_data();
  Dtype* mean = mean_.mutable_cpu_data();
  Dtype* factor = variance_.mutable_cpu_data();
  for (int c = 0; c < channels_; ++c) {
    mean[c] = scale_factor * stored_mean[c];
    factor[c] = 1 / std::sqrt(scale_factor * stored_variance[c] + eps_);
  }
}

template <typename Dtype>
void BatchNormLayer<Dtype>::Affine(vector<Dtype>* factor,
    vector<Dtype>* shift) {
  UseStoredStatistics();
  const Dtype* mean = mean_.cpu_data();
  const Dtype* own_factor = variance_.cpu_data();
  for (int c = 0; c < channels_; ++c) {
    (*factor)[c] *= own_factor[c];
    (*shift)[c] -= mean[c] * (*factor)[c];
  }
}

template <typename Dtype>
elementwise::ScaleParts<Dtype> ScaleLayer<Dtype>::Parts() {
  elementwise::ScaleParts<Dtype> parts;
  parts.outer = outer_dim_;
  parts.channels = scale_dim_;
  parts.inner = inner_dim_;
  parts.by_channel = axis_ == 1 && this->blobs_[0]->num_axes() == 1;
  parts.factor_learns = this->param_propagate_down_[0];
  parts.shift_learns =
      bias_layer_ && this->param_propagate_down_[bias_param_id_];
  parts.factor = this->blobs_[0].get();
  parts.shift = bias_layer_ ? this->blobs_[bias_param_id_].get() : NULL;
  parts.kept = &temp_;
  parts.normalized = normalized_;
  return parts;
}

template <typename Dtype>
void ScaleLayer<Dtype>::Affine(vector<Dtype>* factor, vector<Dtype>* shift) {
  const Dtype* own_factor = this->blobs_[0]->cpu_data();
  const Dtype* own_shift =
      bias_layer_ ? this->blobs_[bias_param_id_]->cpu_data() : NULL;
  for (int c = 0; c < factor->size(); ++c) {
    if (own_shift) { (*shift)[c] += own_shift[c] * (*factor)[c]; }
    (*factor)[c] *= own_factor[c];
  }
}

#define INSTANTIATE_AFFINE_LAYERS(Dtype) \
  template void BatchNormLayer<Dtype>::UseStoredStatistics(); \
  template void BatchNormLayer<Dtype>::Affine(vector<Dtype>*, \
      vector<Dtype>*); \
  template elementwise::ScaleParts<Dtype> ScaleLayer<Dtype>::Parts(); \
  template void ScaleLayer<Dtype>::Affine(vector<Dtype>*, vector<Dtype>*)

INSTANTIATE_AFFINE_LAYERS(float);
INSTANTIATE_AFFINE_LAYERS(double);

}  // namespace caffe
