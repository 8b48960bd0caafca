#ifndef CAFFE_LAYERS_SEMANTIC_ATTENTION_LAYER_HPP_
#define CAFFE_LAYERS_SEMANTIC_ATTENTION_LAYER_HPP_

#include <vector>

#include "caffe/blob.hpp"
#include "caffe/layer.hpp"
#include "caffe/proto/caffe.pb.h"

namespace caffe {

/**
 * @brief Means of feature maps under attention that each row (a label, say)
 *        pays to the positions of each channel by itself: @f$
 *        y_{nrd} = \sum_p \mathrm{softmax}_p(e_{rd} f_{ndp}) f_{ndp} @f$.
 *
 * bottom: features @f$ f @f$ (N x D x H x W) and embeddings @f$ e @f$ (R x D).
 * top: @f$ y @f$ (N x R x D).
 *
 * It has no parameters. The weights are never stored: beside its blobs the
 * layer needs two (on a GPU three) numbers for every number of the top.
 * The maths is in caffe/util/semantic_attention.hpp.
 */
template <typename Dtype>
class SemanticAttentionLayer : public Layer<Dtype> {
 public:
  explicit SemanticAttentionLayer(const LayerParameter& param)
      : Layer<Dtype>(param) {}
  virtual void Reshape(const vector<Blob<Dtype>*>& bottom,
      const vector<Blob<Dtype>*>& top);

  virtual inline const char* type() const { return "SemanticAttention"; }
  virtual inline int ExactNumBottomBlobs() const { return 2; }
  virtual inline int ExactNumTopBlobs() const { return 1; }

 protected:
  virtual void Forward_cpu(const vector<Blob<Dtype>*>& bottom,
      const vector<Blob<Dtype>*>& top);
  virtual void Forward_gpu(const vector<Blob<Dtype>*>& bottom,
      const vector<Blob<Dtype>*>& top);
  virtual void Backward_cpu(const vector<Blob<Dtype>*>& top,
      const vector<bool>& propagate_down, const vector<Blob<Dtype>*>& bottom);
  virtual void Backward_gpu(const vector<Blob<Dtype>*>& top,
      const vector<bool>& propagate_down, const vector<Blob<Dtype>*>& bottom);

  /// What Backward wants to know of Forward, and on a GPU the gradient of the
  /// embeddings by image (N x D x R).
  Blob<Dtype> inverse_, away_, by_image_;
};

}  // namespace caffe

#endif  // CAFFE_LAYERS_SEMANTIC_ATTENTION_LAYER_HPP_
