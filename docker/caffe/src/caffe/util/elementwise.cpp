// CAFFE_ENGINE's part `elementwise`: the kernels on flat arrays. Others are in
// elementwise_*.cpp. elementwise_layers.hpp calls them for layers and solvers,
// fusion_host.cpp for chains of layers.

#include "caffe/util/elementwise_rows.hpp"

namespace caffe {
namespace elementwise {

namespace {

const engine::Provider provider(engine::ELEMENTWISE);

CAFFE_CPU_CLONES
void relu_chunk(size_t count, const float* x, float slope, float* y) {
#pragma GCC ivdep
  for (size_t i = 0; i < count; ++i) {
    y[i] = x[i] < 0 ? slope * x[i] : x[i];
  }
}

CAFFE_CPU_CLONES
void relu_backward_chunk(size_t count, const float* x, const float* dy,
    float slope, float* dx) {
#pragma GCC ivdep
  for (size_t i = 0; i < count; ++i) {
    dx[i] = x[i] > 0 ? dy[i] : slope * dy[i];
  }
}

CAFFE_CPU_CLONES
void sum_chunk(size_t count, float a_factor, const float* a, float b_factor,
    const float* b, float* y) {
#pragma GCC ivdep
  for (size_t i = 0; i < count; ++i) {
    y[i] = a_factor * a[i] + b_factor * b[i];
  }
}

CAFFE_CPU_CLONES
void sum_relu_chunk(size_t count, float a_factor, const float* a,
    float b_factor, const float* b, float* y) {
#pragma GCC ivdep
  for (size_t i = 0; i < count; ++i) {
    const float out = a_factor * a[i] + b_factor * b[i];
    y[i] = out < 0 ? 0 : out;
  }
}

CAFFE_CPU_CLONES
void scale_chunk(size_t count, float factor, const float* x, float* y) {
#pragma GCC ivdep
  for (size_t i = 0; i < count; ++i) { y[i] = factor * x[i]; }
}

CAFFE_CPU_CLONES
void multiply_chunk(size_t count, const float* a, const float* b, float* y) {
#pragma GCC ivdep
  for (size_t i = 0; i < count; ++i) { y[i] = a[i] * b[i]; }
}

CAFFE_CPU_CLONES
void descend_chunk(size_t count, float rate, float momentum, float decay,
    float* gradient, float* history, float* weight) {
#pragma GCC ivdep
  for (size_t i = 0; i < count; ++i) {
    const float slope = gradient[i] + decay * weight[i];
    const float step = momentum * history[i] + rate * slope;
    gradient[i] = step;
    history[i] = step;
    weight[i] -= step;
  }
}

}  // namespace

void relu(size_t count, const float* x, float slope, float* y) {
  for_chunks(count, [&](size_t begin, size_t length) {
    relu_chunk(length, x + begin, slope, y + begin);
  });
}

void relu_backward(size_t count, const float* x, const float* dy, float slope,
    float* dx) {
  for_chunks(count, [&](size_t begin, size_t length) {
    relu_backward_chunk(length, x + begin, dy + begin, slope, dx + begin);
  });
}

void sum(size_t count, float a_factor, const float* a, float b_factor,
    const float* b, bool relu, float* y) {
  for_chunks(count, [&](size_t begin, size_t length) {
    (relu ? sum_relu_chunk : sum_chunk)(length, a_factor, a + begin, b_factor,
        b + begin, y + begin);
  });
}

void scale(size_t count, float factor, const float* x, float* y) {
  for_chunks(count, [&](size_t begin, size_t length) {
    scale_chunk(length, factor, x + begin, y + begin);
  });
}

void multiply(size_t count, const float* a, const float* b, float* y) {
  for_chunks(count, [&](size_t begin, size_t length) {
    multiply_chunk(length, a + begin, b + begin, y + begin);
  });
}

void descend(size_t count, float rate, float momentum, float decay,
    float* gradient, float* history, float* weight) {
  for_chunks(count, [&](size_t begin, size_t length) {
    descend_chunk(length, rate, momentum, decay, gradient + begin,
        history + begin, weight + begin);
  });
}

}  // namespace elementwise
}  // namespace caffe
