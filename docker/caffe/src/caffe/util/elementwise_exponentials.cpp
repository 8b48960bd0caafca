// Sigmoid, and Softmax over numbers that lie one behind another. Stock Caffe
// computes their exponentials one at a time.

#include <algorithm>

#include "caffe/util/elementwise_layers.hpp"
#include "caffe/util/elementwise_rows.hpp"
#include "caffe/util/power_of_two.hpp"

namespace caffe {
namespace elementwise {

namespace {

CAFFE_CPU_CLONES
void sigmoid_chunk(size_t count, const float* x, float* y) {
#pragma GCC ivdep
  for (size_t i = 0; i < count; ++i) { y[i] = vectors::sigmoid(x[i]); }
}

CAFFE_INLINE float largest(int count, const float* x) {
  int i = 0;
  float most = x[0];
  if (count >= kLanes) {
    Lanes best = load(x);
    for (i = kLanes; i + kLanes <= count; i += kLanes) {
      const Lanes in = load(x + i);
      best = in > best ? in : best;
    }
    most = best[0];
    for (int lane = 1; lane < kLanes; ++lane) {
      most = std::max(most, best[lane]);
    }
  }
  for (; i < count; ++i) { most = std::max(most, x[i]); }
  return most;
}

CAFFE_INLINE float total(int count, const float* x) {
  Lanes sums = {};
  for (int i = 0; i < count; i += kLanes) {
    sums += load_part(x + i, std::min(kLanes, count - i));
  }
  float sum = 0;
  for (int lane = 0; lane < kLanes; ++lane) { sum += sums[lane]; }
  return sum;
}

CAFFE_CPU_CLONES
void softmax_row(int count, const float* x, float* y) {
  const float most = largest(count, x);
#pragma GCC ivdep
  for (int i = 0; i < count; ++i) { y[i] = vectors::exponential(x[i] - most); }
  const float factor = 1 / total(count, y);
#pragma GCC ivdep
  for (int i = 0; i < count; ++i) { y[i] *= factor; }
}

}  // namespace

void sigmoid(size_t count, const float* x, float* y) {
  for_chunks(count, [&](size_t begin, size_t length) {
    sigmoid_chunk(length, x + begin, y + begin);
  });
}

void softmax(long rows, int length, const float* x, float* y) {
  for_rows(rows, length, [&](long row) {
    softmax_row(length, x + row * length, y + row * length);
  });
}

bool SigmoidForward(const Blob<float>& bottom, Blob<float>* top) {
  if (!enabled<float>()) { return false; }
  const int block = bottom.data_block();
  const float* x = bottom.cpu_data_in(block);
  sigmoid(bottom.count(), x, top->overwritten_cpu_data_in(block));
  return true;
}

bool SoftmaxForward(int axis, const Blob<float>& bottom, Blob<float>* top) {
  if (!enabled<float>() || bottom.count(axis + 1) != 1 ||
      bottom.count() == 0) {
    return false;
  }
  const float* x = bottom.cpu_data();
  softmax(bottom.count(0, axis), bottom.shape(axis), x,
      top->overwritten_cpu_data_in(1));
  return true;
}

}  // namespace elementwise
}  // namespace caffe
