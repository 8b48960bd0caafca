// The passes of Pooling layers.

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

bool PoolingPasses::Forward(PoolingParameter_PoolMethod method,
    const Window& window, const Blob<float>& bottom, Blob<float>* top,
    Blob<int>* mask) {
  if (method == PoolingParameter_PoolMethod_STOCHASTIC || !enabled<float>()) {
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
  if (method == PoolingParameter_PoolMethod_STOCHASTIC || !enabled<float>()) {
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
