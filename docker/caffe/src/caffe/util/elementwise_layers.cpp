#include "caffe/util/elementwise_layers.hpp"

#include <algorithm>

#include "caffe/util/engine.hpp"
#include "caffe/util/large.hpp"

namespace caffe {
namespace elementwise {

namespace {

bool enabled() { return engine::enabled(engine::ELEMENTWISE); }

// A blob as channels of its axis 1.
Planes planes_of(const Blob<float>& blob, int channels, int block) {
  const int outer = blob.shape(0);
  const Planes planes = { outer, channels, blob.count() / (outer * channels),
      block };
  return planes;
}

// The height and the width are those of the window.
Planes planes_of(const Blob<float>& blob, const Window& window, int block) {
  const Planes planes = { blob.shape(0), blob.shape(1),
      window.height * window.width, block };
  return planes;
}

// Adds the sums to the diff of a parameter.
void add(const vector<double>& sums, Blob<float>* parameter) {
  float* diff = parameter->mutable_cpu_diff();
  for (int c = 0; c < sums.size(); ++c) { diff[c] += sums[c]; }
}

}  // namespace

bool ReLUForward(const Blob<float>& bottom, float slope, Blob<float>* top) {
  if (!enabled()) { return false; }
  const int block = bottom.data_block();
  const float* x = bottom.cpu_data_in(block);
  relu(bottom.count(), x, slope, top->overwritten_cpu_data_in(block));
  return true;
}

bool ReLUBackward(const Blob<float>& top, float slope, Blob<float>* bottom) {
  if (!enabled()) { return false; }
  const int block = bottom->data_block();
  const float* x = bottom->cpu_data_in(block);
  const float* dy = top.cpu_diff_in(block);
  relu_backward(bottom->count(), x, dy, slope,
      bottom->overwritten_cpu_diff_in(block));
  return true;
}

bool EltwiseForward(EltwiseParameter_EltwiseOp operation,
    const vector<float>& coefficients, const vector<Blob<float>*>& bottom,
    Blob<float>* top) {
  if (operation == EltwiseParameter_EltwiseOp_MAX || !enabled()) {
    return false;
  }
  int block = 1;
  for (int i = 0; i < bottom.size(); ++i) {
    block = std::max(block, bottom[i]->data_block());
  }
  vector<const float*> x;
  for (int i = 0; i < bottom.size(); ++i) {
    x.push_back(bottom[i]->cpu_data_in(block));
  }
  float* y = top->overwritten_cpu_data_in(block);
  for (int i = 1; i < bottom.size(); ++i) {
    const float* first = i == 1 ? x[0] : y;
    if (operation == EltwiseParameter_EltwiseOp_PROD) {
      multiply(top->count(), first, x[i], y);
    } else {
      sum(top->count(), i == 1 ? coefficients[0] : 1, first, coefficients[i],
          x[i], false, y);
    }
  }
  return true;
}

bool EltwiseBackward(EltwiseParameter_EltwiseOp operation, bool stable,
    const vector<float>& coefficients, const Blob<float>& top,
    const vector<bool>& propagate_down, const vector<Blob<float>*>& bottom) {
  const bool product_of_two = operation == EltwiseParameter_EltwiseOp_PROD &&
      stable && bottom.size() == 2;
  if (!(operation == EltwiseParameter_EltwiseOp_SUM || product_of_two) ||
      !enabled()) {
    return false;
  }
  const int block = top.diff_block();
  for (int i = 0; i < bottom.size(); ++i) {
    if (!propagate_down[i]) { continue; }
    const float* dy = top.cpu_diff_in(block);
    float* dx = bottom[i]->overwritten_cpu_diff_in(block);
    if (product_of_two) {
      multiply(top.count(), dy, bottom[1 - i]->cpu_data_in(block), dx);
    } else {
      scale(top.count(), coefficients[i], dy, dx);
    }
  }
  return true;
}

bool SplitBackward(const vector<Blob<float>*>& top, Blob<float>* bottom) {
  if (top.size() == 1 || !enabled()) { return false; }
  int block = 1;
  for (int i = 0; i < top.size(); ++i) {
    block = std::max(block, top[i]->diff_block());
  }
  float* dx = bottom->overwritten_cpu_diff_in(block);
  for (int i = 1; i < top.size(); ++i) {
    const float* first = i == 1 ? top[0]->cpu_diff_in(block) : dx;
    sum(bottom->count(), 1, first, 1, top[i]->cpu_diff_in(block), false, dx);
  }
  return true;
}

bool NormalizeForward(const Blob<float>& bottom, const Blob<float>& mean,
    const Blob<float>& factor, Blob<float>* top) {
  if (!enabled()) { return false; }
  const int block = bottom.data_block();
  const float* x = bottom.cpu_data_in(block);
  float* y = top->overwritten_cpu_data_in(block);
  affine(planes_of(bottom, factor.count(), block), x, mean.cpu_data(),
      factor.cpu_data(), NULL, false, y);
  return true;
}

bool NormalizeBackward(const Blob<float>& top, const Blob<float>& factor,
    Blob<float>* bottom) {
  if (!enabled()) { return false; }
  const int block = top.diff_block();
  const float* dy = top.cpu_diff_in(block);
  float* dx = bottom->overwritten_cpu_diff_in(block);
  affine(planes_of(*bottom, factor.count(), block), dy, NULL,
      factor.cpu_data(), NULL, false, dx);
  return true;
}

bool Moments(const Blob<float>& blob, vector<double>* mean,
    vector<double>* variance) {
  if (!enabled()) { return false; }
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
  if (!enabled()) { return false; }
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

bool Descend(float rate, float momentum, float decay, Blob<float>* parameter,
    Blob<float>* history) {
  if (!enabled()) { return false; }
  // A fixed weight that has come to rest is not even read.
  if (rate == 0 && history->asum_data() == 0) { return true; }
  if (large::DescendProduct(rate, momentum, decay, parameter, history)) {
    return true;
  }
  SyncedMemory* const memory[] = { parameter->diff().get(),
      history->data().get(), parameter->data().get() };
  bool blocked = memory[0]->block() > 1;
  for (int i = 0; i < 3; ++i) { blocked = blocked && !memory[i]->watched(); }
  float* numbers[3];
  for (int i = 0; i < 3; ++i) {
    numbers[i] = static_cast<float*>(blocked ?
        memory[i]->mutable_blocked_cpu_data(memory[0]->layout()) :
        memory[i]->mutable_cpu_data());
    memory[i]->free_ordered();
  }
  descend(parameter->count(), rate, momentum, decay, numbers[0], numbers[1],
      numbers[2]);
  return true;
}

bool ScalePasses::Forward(const ScaleParts<float>& layer,
    const Blob<float>& bottom, Blob<float>* top) {
  if (!enabled()) { return false; }
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
  if (!enabled()) { return false; }
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

bool PoolingPasses::Forward(PoolingParameter_PoolMethod method,
    const Window& window, const Blob<float>& bottom, Blob<float>* top,
    Blob<int>* mask) {
  if (method == PoolingParameter_PoolMethod_STOCHASTIC || !enabled()) {
    return false;
  }
  block_ = bottom.data_block();
  const float* x = bottom.cpu_data_in(block_);
  float* y = top->overwritten_cpu_data_in(block_);
  const Planes planes = planes_of(bottom, window, block_);
  if (method == PoolingParameter_PoolMethod_MAX) {
    max_pool(planes, window, x, y, mask->mutable_cpu_data());
  } else {
    average_pool(planes, window, x, y);
  }
  return true;
}

bool PoolingPasses::Backward(PoolingParameter_PoolMethod method,
    const Window& window, const Blob<float>& top, const Blob<int>& mask,
    Blob<float>* bottom) {
  if (method == PoolingParameter_PoolMethod_STOCHASTIC || !enabled()) {
    return false;
  }
  const float* dy = top.cpu_diff_in(block_);
  float* dx = bottom->overwritten_cpu_diff_in(block_);
  const Planes planes = planes_of(*bottom, window, block_);
  if (method == PoolingParameter_PoolMethod_MAX) {
    max_pool_backward(planes, window, dy, mask.cpu_data(), dx);
  } else {
    average_pool_backward(planes, window, dy, dx);
  }
  return true;
}

}  // namespace elementwise
}  // namespace caffe
