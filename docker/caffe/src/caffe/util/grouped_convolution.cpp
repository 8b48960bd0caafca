#include <algorithm>
#include <cstddef>

#include "caffe/util/cpu_clones.hpp"
#include "caffe/util/engine.hpp"
#include "caffe/util/grouped_convolution.hpp"

namespace caffe {

namespace {

const engine::Provider grouped_provider(engine::GROUPED);

CAFFE_CPU_CLONES
float dot(int count, const float* a, const float* b) {
  float sum = 0;
#pragma omp simd reduction(+:sum)
  for (int k = 0; k < count; ++k) { sum += a[k] * b[k]; }
  return sum;
}

// y += factor * x
CAFFE_CPU_CLONES
void add_scaled(int count, float factor, const float* x, float* y) {
#pragma GCC ivdep
  for (int k = 0; k < count; ++k) { y[k] += factor * x[k]; }
}

}  // namespace

void GroupedConvolution::Forward(const Blob<float>& bottom,
    const Blob<float>& weight, const Blob<float>* bias,
    Blob<float>* top) const {
  Forward(bottom.cpu_data(), weight.cpu_data(),
      bias ? bias->cpu_data() : NULL, top->mutable_cpu_data());
}

void GroupedConvolution::Backward(const Blob<float>& top, bool propagate_down,
    bool weight_learns, Blob<float>* bottom, Blob<float>* weight,
    Blob<float>* bias) const {
  Backward(bottom->cpu_data(), weight->cpu_data(), top.cpu_diff(),
      propagate_down ? bottom->mutable_cpu_diff() : NULL,
      weight_learns ? weight->mutable_cpu_diff() : NULL,
      bias ? bias->mutable_cpu_diff() : NULL);
}

void GroupedConvolution::Forward(const float* input, const float* weight,
    const float* bias, float* output) const {
#pragma omp parallel for schedule(static)
  for (int g = 0; g < groups; ++g) {
    const float* kernels = weight + static_cast<size_t>(g) * outputs * size;
    for (int n = 0; n < num; ++n) {
      const size_t map = static_cast<size_t>(n) * groups + g;
      for (int m = 0; m < outputs; ++m) {
        output[map * outputs + m] =
            dot(size, input + map * size, kernels + m * size) +
            (bias ? bias[g * outputs + m] : 0);
      }
    }
  }
}

void GroupedConvolution::Backward(const float* input, const float* weight,
    const float* output_diff, float* input_diff, float* weight_diff,
    float* bias_diff) const {
#pragma omp parallel for schedule(static)
  for (int g = 0; g < groups; ++g) {
    const size_t kernels = static_cast<size_t>(g) * outputs * size;
    for (int n = 0; n < num; ++n) {
      const size_t map = static_cast<size_t>(n) * groups + g;
      const float* x = input + map * size;
      float* dx = input_diff ? input_diff + map * size : NULL;
      if (dx) { std::fill(dx, dx + size, 0.f); }
      for (int m = 0; m < outputs; ++m) {
        const float dy = output_diff[map * outputs + m];
        const size_t kernel = kernels + m * size;
        if (dx) { add_scaled(size, dy, weight + kernel, dx); }
        if (weight_diff) { add_scaled(size, dy, x, weight_diff + kernel); }
        if (bias_diff) { bias_diff[g * outputs + m] += dy; }
      }
    }
  }
}

}  // namespace caffe
