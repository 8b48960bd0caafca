// The passes of Pooling layers.

#include <vector>

#include "caffe/util/elementwise_layers.hpp"

namespace caffe {
namespace elementwise {

namespace {

// The height and the width are those of the window.
Planes planes_of(const Blob<float>& blob, const Window& window, int block) {
  const Planes planes = { blob.shape(0), blob.shape(1),
      window.height * window.width, block };
  return planes;
}

}  // namespace

bool PoolingPasses::Chooses(PoolingParameter_PoolMethod method,
    const Window& window) {
  return method == PoolingParameter_PoolMethod_MAX ||
      (method == PoolingParameter_PoolMethod_AVE && single(window));
}

bool PoolingPasses::Forward(PoolingParameter_PoolMethod method,
    const Window& window, const Blob<float>& bottom, Blob<float>* top,
    Blob<int>* mask) {
  if (method == PoolingParameter_PoolMethod_STOCHASTIC || !enabled<float>()) {
    return false;
  }
  const bool largest = method == PoolingParameter_PoolMethod_MAX;
  const bool halves = bottom.data_in_halves() && Chooses(method, window);
  mask_made_ = !halves;
  if (halves) {
    block_ = 1;
    const uint16_t* x = bottom.cpu_halves();
    uint16_t* y = top->overwritten_cpu_halves();
    if (largest) {
      max_pool_halves(bottom.shape(0), bottom.shape(1), window, x, y);
    } else {
      pick(planes_of(bottom, window, bottom.shape(1)), window, x, y);
    }
    return true;
  }
  block_ = bottom.data_block();
  const float* x = bottom.cpu_data_in(block_);
  float* y = top->overwritten_cpu_data_in(block_);
  const Planes planes = planes_of(bottom, window, block_);
  if (largest) {
    max_pool(planes, window, x, y, mask->mutable_cpu_data());
  } else if (single(window)) {
    pick(planes, window, x, y);
  } else {
    average_pool(planes, window, x, y);
  }
  return true;
}

bool PoolingPasses::Backward(PoolingParameter_PoolMethod method,
    const Window& window, const Blob<float>& top, Blob<int>* mask,
    Blob<float>* bottom) {
  if (method == PoolingParameter_PoolMethod_STOCHASTIC || !enabled<float>()) {
    return false;
  }
  const bool largest = method == PoolingParameter_PoolMethod_MAX;
  if (largest && !mask_made_) {
    vector<float> maxima(top.count());
    max_pool(planes_of(*bottom, window, block_), window, bottom->cpu_data(),
        maxima.data(), mask->mutable_cpu_data());
    mask_made_ = true;
  }
  const float* dy = top.cpu_diff_in(block_);
  float* dx = bottom->overwritten_cpu_diff_in(block_);
  const Planes planes = planes_of(*bottom, window, block_);
  if (largest) {
    max_pool_backward(planes, window, dy, mask->cpu_data(), dx);
  } else {
    average_pool_backward(planes, window, dy, dx);
  }
  return true;
}

}  // namespace elementwise
}  // namespace caffe
