// Layers that compute channel by channel: BatchNorm and Scale.

#include "caffe/util/elementwise_layers.hpp"

namespace caffe {
namespace elementwise {

namespace {

// A blob as channels of its axis 1.
Planes planes_of(const Blob<float>& blob, int channels, int block) {
  const int outer = blob.shape(0);
  const Planes planes = { outer, channels, blob.count() / (outer * channels),
      block };
  return planes;
}

// Adds the sums to the diff of a parameter.
void add(const vector<double>& sums, Blob<float>* parameter) {
  float* diff = parameter->mutable_cpu_diff();
  for (int c = 0; c < sums.size(); ++c) { diff[c] += sums[c]; }
}

}  // namespace

bool NormalizeForward(const Blob<float>& bottom, const Blob<float>& mean,
    const Blob<float>& factor, Blob<float>* top) {
  if (!enabled<float>()) { return false; }
  const int block = bottom.data_block();
  const float* x = bottom.cpu_data_in(block);
  float* y = top->overwritten_cpu_data_in(block);
  affine(planes_of(bottom, factor.count(), block), x, mean.cpu_data(),
      factor.cpu_data(), NULL, false, y);
  return true;
}

bool NormalizeBackward(const Blob<float>& top, const Blob<float>& factor,
    Blob<float>* bottom) {
  if (!enabled<float>()) { return false; }
  const int block = top.diff_block();
  const float* dy = top.cpu_diff_in(block);
  float* dx = bottom->overwritten_cpu_diff_in(block);
  affine(planes_of(*bottom, factor.count(), block), dy, NULL,
      factor.cpu_data(), NULL, false, dx);
  return true;
}

bool Moments(const Blob<float>& blob, vector<double>* mean,
    vector<double>* variance) {
  if (!enabled<float>()) { return false; }
  const int block = blob.data_block();
  mean->resize(blob.shape(1));
  variance->resize(blob.shape(1));
  moments(planes_of(blob, blob.shape(1), block), blob.cpu_data_in(block),
      mean->data(), variance->data());
  return true;
}

bool BatchNormalizeBackward(const Blob<float>& top,
    const Blob<float>& normalized, const Blob<float>& factor,
    Blob<float>* bottom) {
  if (!enabled<float>()) { return false; }
  const int channels = factor.count(), block = top.diff_block();
  const float* dy = top.cpu_diff_in(block);
  const float* y = normalized.cpu_data_in(block);
  const float* a = factor.cpu_data();
  const Planes planes = planes_of(*bottom, channels, block);
  vector<double> sums(channels), products(channels);
  affine_backward(planes, dy, NULL, a, y, NULL, NULL, sums.data(),
      products.data());
  const double count = bottom->count() / channels;
  vector<float> b(channels), shift(channels);
  for (int c = 0; c < channels; ++c) {
    b[c] = -a[c] * products[c] / count;
    shift[c] = -a[c] * sums[c] / count;
  }
  combine(planes, dy, a, y, b.data(), shift.data(),
      bottom->overwritten_cpu_diff_in(block));
  return true;
}

bool ScalePasses::Forward(const ScaleParts<float>& layer,
    const Blob<float>& bottom, Blob<float>* top) {
  if (!enabled<float>()) { return false; }
  normalized_ = layer.normalized && bottom.data()->deferred();
  const Blob<float>& input = normalized_ ? *layer.normalized : bottom;
  block_ = layer.by_channel ? input.data_block() : 1;
  input_kept_ = true;
  const float* x = input.cpu_data_in(block_);
  float* y = top->overwritten_cpu_data_in(block_);
  const Planes planes = { layer.outer, layer.channels, layer.inner, block_ };
  // Backward needs the input for the factor's own gradient only.
  float* copy = &bottom == top && layer.factor_learns && !normalized_ ?
      layer.kept->mutable_cpu_data() : NULL;
  affine(planes, x, NULL, layer.factor->cpu_data(),
      layer.shift ? layer.shift->cpu_data() : NULL, false, y, copy);
  return true;
}

bool ScalePasses::Backward(const ScaleParts<float>& layer,
    const Blob<float>& top, bool propagate_down, Blob<float>* bottom) {
  if (!enabled<float>()) { return false; }
  if (!layer.factor_learns && !layer.shift_learns && !propagate_down) {
    return true;
  }
  const bool in_place = bottom == &top;
  if (in_place && !input_kept_) {
    const int block = top.data_block();
    BackwardInPlace(layer, top.cpu_diff_in(block), false,
        layer.factor->cpu_data(), propagate_down, block, bottom);
    return true;
  }
  const float* dy = top.cpu_diff_in(block_);
  const float* x = !layer.factor_learns ? NULL :
      normalized_ ? layer.normalized->cpu_data_in(block_) :
      in_place ? layer.kept->cpu_data() : bottom->cpu_data_in(block_);
  float* dx = propagate_down ? bottom->overwritten_cpu_diff_in(block_) : NULL;
  const Planes planes = { layer.outer, layer.channels, layer.inner, block_ };
  vector<double> sums(layer.channels), products(layer.channels);
  affine_backward(planes, dy, NULL, layer.factor->cpu_data(), x, NULL, dx,
      sums.data(), layer.factor_learns ? products.data() : NULL);
  if (layer.factor_learns) { add(products, layer.factor); }
  if (layer.shift_learns) { add(sums, layer.shift); }
  return true;
}

void ScalePasses::BackwardInPlace(const ScaleParts<float>& layer,
    const float* gradient, bool gated, const float* factor,
    bool propagate_down, int block, Blob<float>* bottom) {
  const Planes planes = { layer.outer, layer.channels, layer.inner, block };
  const float* output = bottom->cpu_data_in(block);
  const float* scale = layer.factor->cpu_data();
  vector<double> sums(layer.channels), products(layer.channels);
  affine_backward(planes, gradient, gated ? output : NULL, factor, output,
      layer.shift ? layer.shift->cpu_data() : NULL,
      propagate_down ? bottom->overwritten_cpu_diff_in(block) : NULL,
      sums.data(), layer.factor_learns ? products.data() : NULL);
  if (layer.factor_learns) {
    for (int c = 0; c < layer.channels; ++c) { products[c] /= scale[c]; }
    add(products, layer.factor);
  }
  if (layer.shift_learns) { add(sums, layer.shift); }
}

}  // namespace elementwise
}  // namespace caffe
