#include <vector>

#include "caffe/layers/semantic_attention_layer.hpp"
#include "caffe/util/semantic_attention.hpp"

namespace caffe {

namespace {

template <typename Dtype>
semantic_attention::Sizes SemanticAttentionSizes(const Blob<Dtype>& features,
    const Blob<Dtype>& embeddings) {
  const semantic_attention::Sizes sizes = { features.shape(0),
      features.shape(1), features.count(2), embeddings.shape(0) };
  return sizes;
}

}  // namespace

template <typename Dtype>
void SemanticAttentionLayer<Dtype>::Reshape(const vector<Blob<Dtype>*>& bottom,
    const vector<Blob<Dtype>*>& top) {
  const Blob<Dtype>& features = *bottom[0], &embeddings = *bottom[1];
  const string shapes = features.shape_string() + "and " +
      embeddings.shape_string();
  CHECK_GE(features.num_axes(), 3)
      << "SemanticAttention wants features N x D x H x W, not " << shapes;
  CHECK_EQ(embeddings.num_axes(), 2)
      << "SemanticAttention wants embeddings R x D, not " << shapes;
  CHECK_EQ(features.shape(1), embeddings.shape(1))
      << "SemanticAttention wants as many channels as numbers in a row, not "
      << shapes;
  CHECK(features.count() && embeddings.count())
      << "SemanticAttention wants numbers, not " << shapes;
  vector<int> shape(3);
  shape[0] = features.shape(0);
  shape[1] = embeddings.shape(0);
  shape[2] = embeddings.shape(1);
  top[0]->Reshape(shape);
  std::swap(shape[1], shape[2]);
  inverse_.Reshape(shape);
  away_.Reshape(shape);
  by_image_.Reshape(shape);
}

template <typename Dtype>
void SemanticAttentionLayer<Dtype>::Forward_cpu(
    const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top) {
  semantic_attention::forward(SemanticAttentionSizes(*bottom[0], *bottom[1]),
      bottom[0]->cpu_data(), bottom[1]->cpu_data(), top[0]->mutable_cpu_data(),
      inverse_.mutable_cpu_data(), away_.mutable_cpu_data());
}

template <typename Dtype>
void SemanticAttentionLayer<Dtype>::Backward_cpu(
    const vector<Blob<Dtype>*>& top, const vector<bool>& propagate_down,
    const vector<Blob<Dtype>*>& bottom) {
  if (!propagate_down[0] && !propagate_down[1]) { return; }
  semantic_attention::backward(SemanticAttentionSizes(*bottom[0], *bottom[1]),
      bottom[0]->cpu_data(), bottom[1]->cpu_data(), inverse_.cpu_data(),
      away_.cpu_data(), top[0]->cpu_diff(),
      propagate_down[0] ? bottom[0]->mutable_cpu_diff() : NULL,
      propagate_down[1] ? bottom[1]->mutable_cpu_diff() : NULL);
}

#ifdef CPU_ONLY
STUB_GPU(SemanticAttentionLayer);
#endif

INSTANTIATE_CLASS(SemanticAttentionLayer);
REGISTER_LAYER_CLASS(SemanticAttention);

}  // namespace caffe
