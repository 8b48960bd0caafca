// BatchNorm with the statistics of the batch in CAFFE_ENGINE's part `large`.
//
// Caffe keeps the output, its gradient, the deviation at each place and, in the
// Scale that follows, the output once more. Here it keeps its output alone, in
// the layout of the convolution before it; the blob that both layers compute in
// place gets numbers from Scale, which reads them there, or when somebody asks.

#include <cmath>
#include <cstring>
#include <string>
#include <vector>

#include "caffe/layers/batch_norm_layer.hpp"
#include "caffe/layers/scale_layer.hpp"
#include "caffe/util/elementwise.hpp"
#include "caffe/util/large.hpp"

namespace caffe {

namespace {

const size_t kManyNumbers = 1 << 24;  // assumed: of all such maps of a net

struct CopyOf {
  shared_ptr<SyncedMemory> source;
  SyncedMemory* memory;
  size_t bytes;

  void operator()() const {
    const void* numbers = source->cpu_data();
    memcpy(memory->overwritten_cpu_data(), numbers, bytes);
  }
};

}  // namespace

template <typename Dtype>
bool BatchNormLayer<Dtype>::ForwardOfBatch(Blob<Dtype>* blob) {
  vector<double> mean, variance;
  if (!elementwise::Moments(*blob, &mean, &variance)) { return false; }
  const double count = blob->count() / channels_;
  const double unbiased = count > 1 ? count / (count - 1) : 1;
  Dtype* const weight = this->blobs_[2]->mutable_cpu_data();
  *weight = *weight * moving_average_fraction_ + 1;
  Dtype* const stored_mean = this->blobs_[0]->mutable_cpu_data();
  Dtype* const stored_variance = this->blobs_[1]->mutable_cpu_data();
  Dtype* const own_mean = mean_.mutable_cpu_data();
  Dtype* const factor = variance_.mutable_cpu_data();
  for (int c = 0; c < channels_; ++c) {
    stored_mean[c] = moving_average_fraction_ * stored_mean[c] + mean[c];
    stored_variance[c] = moving_average_fraction_ * stored_variance[c] +
        unbiased * variance[c];
    own_mean[c] = mean[c];
    factor[c] = 1 / std::sqrt(variance[c] + eps_);
  }
  elementwise::NormalizeForward(*blob, mean_, variance_, &x_norm_);
  const CopyOf copy = { x_norm_.data(), blob->data().get(),
      blob->count() * sizeof(Dtype) };
  if (blob->data()->watched()) {
    copy();
  } else {
    blob->data()->Defer(copy);
  }
  return true;
}

template <typename Dtype>
bool BatchNormLayer<Dtype>::BackwardOfBatch(Blob<Dtype>* blob) {
  return elementwise::BatchNormalizeBackward(*blob, x_norm_, variance_, blob);
}

template bool BatchNormLayer<float>::ForwardOfBatch(Blob<float>*);
template bool BatchNormLayer<float>::BackwardOfBatch(Blob<float>*);
template <>
bool BatchNormLayer<double>::ForwardOfBatch(Blob<double>*) { return false; }
template <>
bool BatchNormLayer<double>::BackwardOfBatch(Blob<double>*) { return false; }

namespace large {

void PairNorms(const vector<shared_ptr<Layer<float> > >& layers,
    const vector<vector<Blob<float>*> >& bottoms,
    const vector<vector<Blob<float>*> >& tops) {
  if (!engine::enabled(engine::LARGE) || !elementwise::enabled<float>()) {
    return;
  }
  vector<int> norms;
  size_t numbers = 0;
  for (int i = 0; i + 1 < layers.size(); ++i) {
    const vector<Blob<float>*> blob(1, tops[i].empty() ? NULL : tops[i][0]);
    if (string(layers[i]->type()) == "BatchNorm" &&
        string(layers[i + 1]->type()) == "Scale" && bottoms[i] == blob &&
        bottoms[i + 1] == blob && tops[i + 1] == blob &&
        blob[0]->num_axes() > 1 &&
        !static_cast<BatchNormLayer<float>&>(*layers[i]).affine() &&
        static_cast<ScaleLayer<float>&>(*layers[i + 1]).Parts().by_channel) {
      norms.push_back(i);
      numbers += blob[0]->count();
    }
  }
  if (numbers < kManyNumbers) { return; }
  for (int k = 0; k < norms.size(); ++k) {
    static_cast<ScaleLayer<float>&>(*layers[norms[k] + 1]).ReadFrom(
        static_cast<BatchNormLayer<float>&>(*layers[norms[k]]).KeepOne());
  }
}

}  // namespace large
}  // namespace caffe
