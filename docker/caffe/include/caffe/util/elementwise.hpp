#ifndef CAFFE_UTIL_ELEMENTWISE_HPP_
#define CAFFE_UTIL_ELEMENTWISE_HPP_

#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "caffe/util/engine.hpp"

namespace caffe {

/// Threaded kernels for layers that do little with each number they read.
///
/// These layers take more time than the convolutions once those are fast: Caffe
/// computes them with one thread, with up to eight passes over memory
/// (BatchNorm) and, for lack of vector instructions, one number at a time.
///
/// Every kernel passes over its memory once. Inputs and outputs may be the same
/// array, but must not overlap otherwise. Results do not depend on the number
/// of threads: sums are made in double out of partial sums whose cut does not.
/// Each kernel is compiled for several generations of x86-64; the one that fits
/// the machine is chosen when the library is loaded.
namespace elementwise {

/// Whether a layer of this type computes with these kernels: float only.
template <typename Dtype>
inline bool enabled() {
  return std::is_same<Dtype, float>::value &&
      engine::enabled(engine::ELEMENTWISE);
}

/// An array [outer][channels / block][inner][block]: block 1 is Caffe's own
/// N x C x H x W, block 16 the layout of oneDNN for AVX-512 (8: for AVX2).
struct Planes {
  int outer, channels, inner;
  int block;  // 1, 2, 4, 8 or 16, and a divisor of channels
};

/// y = (x - mean[c]) * factor[c] + shift[c], with relu the positive part of it.
/// mean and shift may be NULL (zeros). If copy is not NULL, x is stored there.
void affine(const Planes& planes, const float* x, const float* mean,
    const float* factor, const float* shift, bool relu, float* y,
    float* copy = NULL);

/// With d = dy, or 0 where the gate is not positive:
/// dx = d * factor[c], sum[c] = sum of d, product[c] = sum of
/// d * (x - centre[c]). The gate is the array `gate`, or, if relu_shift is not
/// NULL, (x - centre[c]) * factor[c] + relu_shift[c] as affine() computes it,
/// or nothing. Each of dx, sum and product may be NULL, x where it is not
/// needed; centre NULL means zeros. sum and product are set, not added to.
void affine_backward(const Planes& planes, const float* dy, const float* gate,
    const float* factor, const float* x, const float* centre, float* dx,
    double* sum, double* product, const float* relu_shift = NULL);

/// The mean and the variance of each channel.
void moments(const Planes& planes, const float* x, double* mean,
    double* variance);

/// y = a * a_factor[c] + b * b_factor[c] + shift[c].
void combine(const Planes& planes, const float* a, const float* a_factor,
    const float* b, const float* b_factor, const float* shift, float* y);

/// y = x, or slope * x where x is negative.
void relu(size_t count, const float* x, float slope, float* y);

/// dx = dy, or slope * dy where x is not positive.
void relu_backward(size_t count, const float* x, const float* dy, float slope,
    float* dx);

/// y = a_factor * a + b_factor * b, with relu the positive part of it.
void sum(size_t count, float a_factor, const float* a, float b_factor,
    const float* b, bool relu, float* y);

/// y = factor * x.
void scale(size_t count, float factor, const float* x, float* y);

/// y = 1 / (1 + e^-x).
void sigmoid(size_t count, const float* x, float* y);

/// y = e^x / the sum of these over a row; rows lie one behind another.
void softmax(long rows, int length, const float* x, float* y);

/// y = a * b.
void multiply(size_t count, const float* a, const float* b, float* y);

/// One step of stochastic gradient descent with momentum: history = momentum *
/// history + rate * (gradient + decay * weight); weight -= history. As in
/// Caffe, gradient then holds what was subtracted.
void descend(size_t count, float rate, float momentum, float decay,
    float* gradient, float* history, float* weight);

/// A pooling window over planes of height x width.
struct Window {
  int height, width, pooled_height, pooled_width;
  int kernel_h, kernel_w, stride_h, stride_w, pad_h, pad_w;
};

/// The largest number in each window, and its index in the plane (laid out as
/// y; the first one of several). planes.inner is not read; planes.block is 1, 8
/// or 16.
void max_pool(const Planes& planes, const Window& window, const float* x,
    float* y, int* mask);
void max_pool_backward(const Planes& planes, const Window& window,
    const float* dy, const int* mask, float* dx);

/// The largest number in each window of bf16, num x height x width x channels.
void max_pool_halves(int num, int channels, const Window& window,
    const uint16_t* x, uint16_t* y);

/// Whether all windows are of one number, and inside of the plane; and these
/// numbers, of floats or bf16 (then planes.block may be any).
bool single(const Window& window);
template <typename Number>
void pick(const Planes& planes, const Window& window, const Number* x,
    Number* y);

/// The mean over each window, padding included as in Caffe.
void average_pool(const Planes& planes, const Window& window, const float* x,
    float* y);
void average_pool_backward(const Planes& planes, const Window& window,
    const float* dy, float* dx);

}  // namespace elementwise
}  // namespace caffe

#endif  // CAFFE_UTIL_ELEMENTWISE_HPP_
