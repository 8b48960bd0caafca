// A step of an LSTM by vectors, for CAFFE_ENGINE's part `recurrent`: what the
// layer LSTMUnit computes.

#include <vector>

#include "caffe/util/cpu_clones.hpp"
#include "caffe/util/power_of_two.hpp"
#include "caffe/util/recurrent.hpp"

namespace caffe {
namespace recurrent {

namespace {

// Fewer units than this are not worth waking a thread for (assumed).
const size_t kUnitsWorthThreads = 1 << 16;

using vectors::sigmoid;

CAFFE_INLINE float hyperbolic_tangent(float x) {
  return 2 * sigmoid(2 * x) - 1;  // as the layer has it
}

template <bool kBias>
CAFFE_INLINE void forward_row(int width, float cont, const float* c_prev,
    const float* x, const float* bias, float* gates, float* c, float* h) {
#pragma GCC ivdep
  for (int d = 0; d < width; ++d) {
    const int to_f = width + d, to_o = 2 * width + d, to_g = 3 * width + d;
    const float i = sigmoid(kBias ? x[d] + bias[d] : x[d]);
    const float seen = sigmoid(kBias ? x[to_f] + bias[to_f] : x[to_f]);
    const float f = cont == 0 ? 0 : cont * seen;
    const float o = sigmoid(kBias ? x[to_o] + bias[to_o] : x[to_o]);
    const float g =
        hyperbolic_tangent(kBias ? x[to_g] + bias[to_g] : x[to_g]);
    const float cell = f * c_prev[d] + i * g;
    gates[d] = i;
    gates[to_f] = f;
    gates[to_o] = o;
    gates[to_g] = g;
    c[d] = cell;
    h[d] = o * hyperbolic_tangent(cell);
  }
}

CAFFE_CPU_CLONES
void forward_row(int width, float cont, const float* c_prev, const float* x,
    const float* bias, float* gates, float* c, float* h) {
  if (bias) {
    forward_row<true>(width, cont, c_prev, x, bias, gates, c, h);
  } else {
    forward_row<false>(width, cont, c_prev, x, bias, gates, c, h);
  }
}

template <bool kNext>
CAFFE_INLINE void backward_row(int width, const float* c_prev,
    const float* gates, const float* c, const float* dc, const float* dh,
    float cont_next, const float* dh_next, float* dc_prev, float* dx) {
#pragma GCC ivdep
  for (int d = 0; d < width; ++d) {
    const int to_f = width + d, to_o = 2 * width + d, to_g = 3 * width + d;
    const float i = gates[d], f = gates[to_f], o = gates[to_o];
    const float g = gates[to_g], tanh_c = hyperbolic_tangent(c[d]);
    const float h_diff = kNext ? dh[d] + cont_next * dh_next[d] : dh[d];
    const float cell_diff = dc[d] + h_diff * o * (1 - tanh_c * tanh_c);
    dc_prev[d] = cell_diff * f;
    dx[d] = cell_diff * g * i * (1 - i);
    dx[to_f] = cell_diff * c_prev[d] * f * (1 - f);
    dx[to_o] = h_diff * tanh_c * o * (1 - o);
    dx[to_g] = cell_diff * i * (1 - g * g);
  }
}

CAFFE_CPU_CLONES
void backward_row(int width, const float* c_prev, const float* gates,
    const float* c, const float* dc, const float* dh, float cont_next,
    const float* dh_next, float* dc_prev, float* dx) {
  if (dh_next) {
    backward_row<true>(width, c_prev, gates, c, dc, dh, cont_next, dh_next,
        dc_prev, dx);
  } else {
    backward_row<false>(width, c_prev, gates, c, dc, dh, 0, dh_next, dc_prev,
        dx);
  }
}

}  // namespace

void UnitForward(int rows, int width, const float* cont, const float* c_prev,
    const float* x, const float* bias, float* gates, float* c, float* h) {
  const size_t size = width;
#pragma omp parallel for schedule(static) if (rows * size > kUnitsWorthThreads)
  for (int n = 0; n < rows; ++n) {
    forward_row(width, cont[n], c_prev + n * size, x + 4 * n * size, bias,
        gates + 4 * n * size, c + n * size, h + n * size);
  }
}

void UnitBackward(int rows, int width, const float* c_prev, const float* gates,
    const float* c, const float* dc, const float* dh, const float* cont_next,
    const float* dh_next, float* dc_prev, float* dx) {
  const size_t size = width;
#pragma omp parallel for schedule(static) if (rows * size > kUnitsWorthThreads)
  for (int n = 0; n < rows; ++n) {
    backward_row(width, c_prev + n * size, gates + 4 * n * size, c + n * size,
        dc + n * size, dh + n * size, dh_next ? cont_next[n] : 0,
        dh_next ? dh_next + n * size : NULL, dc_prev + n * size,
        dx + 4 * n * size);
  }
}

bool UnitForward(const vector<Blob<float>*>& bottom,
    const vector<Blob<float>*>& top, Blob<float>* gates) {
  if (!enabled<float>()) { return false; }
  UnitForward(top[0]->shape(1), top[0]->shape(2), bottom[2]->cpu_data(),
      bottom[0]->cpu_data(), bottom[1]->cpu_data(), NULL,
      gates->mutable_cpu_data(), top[0]->mutable_cpu_data(),
      top[1]->mutable_cpu_data());
  return true;
}

bool UnitBackward(const vector<Blob<float>*>& top,
    const vector<Blob<float>*>& bottom, const Blob<float>& gates) {
  if (!enabled<float>()) { return false; }
  UnitBackward(top[0]->shape(1), top[0]->shape(2), bottom[0]->cpu_data(),
      gates.cpu_data(), top[0]->cpu_data(), top[0]->cpu_diff(),
      top[1]->cpu_diff(), NULL, NULL, bottom[0]->mutable_cpu_diff(),
      bottom[1]->mutable_cpu_diff());
  return true;
}

}  // namespace recurrent
}  // namespace caffe
