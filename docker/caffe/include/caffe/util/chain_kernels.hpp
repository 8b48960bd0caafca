#ifndef CAFFE_UTIL_CHAIN_KERNELS_HPP_
#define CAFFE_UTIL_CHAIN_KERNELS_HPP_

#include <cmath>

#ifdef __CUDACC__
#define CAFFE_ANYWHERE __host__ __device__ inline
#else
#define CAFFE_ANYWHERE inline
#endif

namespace caffe {

/**
 * The arithmetic of CAFFE_ENGINE's part `device`: what a GPU computes for a
 * chain of layers (fusion.hpp) behind its convolution, and SGD's step.
 *
 * A function is what one thread does between two points where the threads of
 * its block wait for each other. So the same code runs on the CPU, over all
 * threads of all blocks one by one: that is how it is tested without a device.
 * Nothing is added atomically: the same numbers give the same results.
 */
namespace kernels {

const int kThreads = 256;      // of a block; assumed, not measured
const int kBlockItems = 4096;  // numbers of a parameter a block; assumed

/// Scale's input is recovered from its output y as (y - shift) / factor, whose
/// error grows with |shift / factor|: up to this ratio it stays below 2.5e-4 of
/// a standard deviation. What it is needed for, the factor's gradient, is a sum
/// over hundreds of such numbers.
const float kLargestRatio = 4096;

/// A thread's place in a grid.
struct Place {
  int block, thread, blocks;
};

#ifdef __CUDACC__
/// That of the thread which asks.
__device__ inline Place here() {
  const Place place = {static_cast<int>(blockIdx.x),
      static_cast<int>(threadIdx.x), static_cast<int>(gridDim.x)};
  return place;
}
#endif

/// Numbers that are read and written at once.
template <int kWidth>
struct alignas(4 * kWidth) Pack {
  float x[kWidth];
};

template <int kWidth>
CAFFE_ANYWHERE Pack<kWidth> load(const float* from, unsigned index) {
  return reinterpret_cast<const Pack<kWidth>*>(from)[index];
}

template <int kWidth>
CAFFE_ANYWHERE void store(const Pack<kWidth>& pack, unsigned index, float* to) {
  reinterpret_cast<Pack<kWidth>*>(to)[index] = pack;
}

/// BatchNorm's stored statistics, NULL where there is none, and Scale's numbers
/// likewise; what both together multiply by and add. `lost` becomes 1 where
/// Scale's input cannot be recovered from its output.
struct Affine {
  const float *mean, *variance, *weight, *gamma, *beta;
  float eps;
  int channels;
  float *factor, *shift;
  int* lost;
};

CAFFE_ANYWHERE void affine(const Affine& of, Place at) {
  for (int c = at.thread; c < of.channels; c += kThreads) {
    float factor = of.gamma ? of.gamma[c] : 1;
    float shift = of.beta ? of.beta[c] : 0;
    // Not a number is not recoverable either.
    if (!(kLargestRatio * fabsf(factor) > fabsf(shift))) { *of.lost = 1; }
    if (of.mean) {
      const float weight = *of.weight == 0 ? 0 : 1 / *of.weight;
      factor *= 1 / sqrtf(weight * of.variance[c] + of.eps);
      shift -= weight * of.mean[c] * factor;
    }
    of.factor[c] = factor;
    of.shift[c] = shift;
  }
}

/// branch = in * factor + shift by channel, out = branch + addend, and ReLU.
/// Maps are [image][channel][inner]; factor (with shift), branch and addend may
/// be NULL, and in, branch and out may be the same.
struct Forward {
  int images, channels, inner;
  const float *in, *factor, *shift, *addend;
  bool relu;
  float *branch, *out;
};

template <int kWidth>
CAFFE_ANYWHERE void forward(const Forward& of, Place at) {
  const unsigned row = of.inner / kWidth;
  const unsigned count = row * of.channels * of.images;
  for (unsigned i = at.block * kThreads + at.thread; i < count;
       i += unsigned(at.blocks) * kThreads) {
    const unsigned channel = i / row % of.channels;
    Pack<kWidth> y = load<kWidth>(of.in, i);
    if (of.factor) {
      const float factor = of.factor[channel], shift = of.shift[channel];
      for (int k = 0; k < kWidth; ++k) { y.x[k] = y.x[k] * factor + shift; }
    }
    if (of.branch) { store(y, i, of.branch); }
    if (of.addend) {
      const Pack<kWidth> other = load<kWidth>(of.addend, i);
      for (int k = 0; k < kWidth; ++k) { y.x[k] += other.x[k]; }
    }
    if (of.relu) {  // NaN stays NaN
      for (int k = 0; k < kWidth; ++k) { y.x[k] = y.x[k] < 0 ? 0 : y.x[k]; }
    }
    store(y, i, of.out);
  }
}

/// Backward through `Forward`. `gate` is out where there is a ReLU, `branch`
/// Scale's output, gated or not. in_diff = g * factor where g is the gated
/// gradient, which addend_diff gets, too; both gradients may be in place.
/// A channel is the work of `parts` blocks. Each leaves the sums over its part
/// of g times Scale's input and of g at sums[(2 part + which) channels +
/// channel]. sums and addend_diff may be NULL.
struct Backward {
  int images, channels, inner, parts;
  const float *gradient, *gate, *branch, *gamma, *beta, *factor;
  float *in_diff, *addend_diff, *sums;
};

/// What a thread of block (part * channels + channel) computes: its part of the
/// two sums.
template <int kWidth>
CAFFE_ANYWHERE void backward(const Backward& of, Place at, float* scaled,
    float* plain) {
  const unsigned row = of.inner / kWidth, channel = at.block % of.channels;
  const unsigned count = row * of.images;
  const float factor = of.factor[channel];
  const float shift = of.beta ? of.beta[channel] : 0;
  const float inverse = of.sums ? 1 / of.gamma[channel] : 0;
  *scaled = *plain = 0;
  for (unsigned i = at.block / of.channels * kThreads + at.thread; i < count;
       i += of.parts * kThreads) {
    const unsigned index =
        (i / row * of.channels + channel) * row + i % row;
    Pack<kWidth> g = load<kWidth>(of.gradient, index);
    if (of.gate) {
      const Pack<kWidth> y = load<kWidth>(of.gate, index);
      for (int k = 0; k < kWidth; ++k) { g.x[k] = y.x[k] > 0 ? g.x[k] : 0; }
    }
    if (of.addend_diff) { store(g, index, of.addend_diff); }
    if (of.sums) {
      const Pack<kWidth> y = load<kWidth>(of.branch, index);
      for (int k = 0; k < kWidth; ++k) {
        *scaled += g.x[k] * ((y.x[k] - shift) * inverse);
        *plain += g.x[k];
      }
    }
    for (int k = 0; k < kWidth; ++k) { g.x[k] *= factor; }
    store(g, index, of.in_diff);
  }
}

/// A step of the sum of a block's numbers, from width = kThreads / 2 to 1; all
/// threads wait before each. The sum is left in numbers[0].
CAFFE_ANYWHERE void halve(float* numbers, int thread, int width) {
  if (thread < width) { numbers[thread] += numbers[thread + width]; }
}

/// Adds the sums of all parts of the channels to a gradient.
CAFFE_ANYWHERE void add_parts(int channels, int parts, const float* sums,
    int which, float* gradient, Place at) {
  const int channel = at.block * kThreads + at.thread;
  if (channel >= channels || !gradient) { return; }
  float sum = 0;
  for (int part = 0; part < parts; ++part) {
    sum += sums[(2 * part + which) * channels + channel];
  }
  gradient[channel] += sum;
}

/// A learnable parameter; its numbers are the work of the blocks from
/// `first_block` to that of the next one.
struct Parameter {
  float* data;
  const float* diff;
  float* history;
  float rate, decay;
  int count, first_block;
};

CAFFE_ANYWHERE int blocks_of(int count) {
  return count / kBlockItems + (count % kBlockItems != 0);
}

/// SGD with L2 regularization: history = momentum * history + rate * (diff *
/// norm + decay * data), data -= history.
CAFFE_ANYWHERE void descend(const Parameter* parameters, int number,
    float momentum, float norm, Place at) {
  int low = 0;
  for (int high = number; high - low > 1;) {
    const int middle = (low + high) / 2;
    if (parameters[middle].first_block <= at.block) {
      low = middle;
    } else {
      high = middle;
    }
  }
  const Parameter& of = parameters[low];
  const int first = (at.block - of.first_block) * kBlockItems;
  const int count = of.count - first < kBlockItems ? of.count - first
      : kBlockItems;
  for (int i = at.thread; i < count; i += kThreads) {
    const float gradient =
        of.diff[first + i] * norm + of.decay * of.data[first + i];
    const float step =
        momentum * of.history[first + i] + of.rate * gradient;
    of.history[first + i] = step;
    of.data[first + i] -= step;
  }
}

}  // namespace kernels
}  // namespace caffe

#endif  // CAFFE_UTIL_CHAIN_KERNELS_HPP_
