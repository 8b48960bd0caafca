#ifndef CAFFE_UTIL_SEMANTIC_ATTENTION_VECTORS_HPP_
#define CAFFE_UTIL_SEMANTIC_ATTENTION_VECTORS_HPP_

#include <cstring>

#include "caffe/util/cpu_clones.hpp"
#include "caffe/util/power_of_two.hpp"

namespace caffe {

/// Vectors of 4, 8 and 16 numbers, and what the kernels of SemanticAttention
/// compute with them.
namespace semantic_attention {

// Sums are made of sixteen parts on every machine, whatever its vectors hold.
const int kLanes = 16;
const float kLeast = -100;  // of exponents of 2

template <int kWidth> struct VectorOf;
template <> struct VectorOf<4> {
  typedef float Floats __attribute__((vector_size(16)));
  typedef unsigned int Bits __attribute__((vector_size(16)));
};
template <> struct VectorOf<8> {
  typedef float Floats __attribute__((vector_size(32)));
  typedef unsigned int Bits __attribute__((vector_size(32)));
};
template <> struct VectorOf<16> {
  typedef float Floats __attribute__((vector_size(64)));
  typedef unsigned int Bits __attribute__((vector_size(64)));
};

template <typename Floats>
CAFFE_INLINE void load(const float* from, Floats* to) {
  std::memcpy(to, from, sizeof(*to));
}

template <typename Floats>
CAFFE_INLINE void store(const Floats& floats, float* to) {
  std::memcpy(to, &floats, sizeof(floats));
}

CAFFE_INLINE float total(const VectorOf<4>::Floats* x) {
  const VectorOf<4>::Floats sum = (x[0] + x[2]) + (x[1] + x[3]);
  return (sum[0] + sum[2]) + (sum[1] + sum[3]);
}

CAFFE_INLINE float total(const VectorOf<8>::Floats* x) {
  const VectorOf<8>::Floats sum = x[0] + x[1];
  VectorOf<4>::Floats half[2];
  std::memcpy(half, &sum, sizeof(sum));
  half[0] += half[1];
  return (half[0][0] + half[0][2]) + (half[0][1] + half[0][3]);
}

CAFFE_INLINE float total(const VectorOf<16>::Floats* x) {
  VectorOf<8>::Floats half[2];
  std::memcpy(half, x, sizeof(half));
  return total(half);
}

// 2^(factor x), for factor x <= 0. What is below 2^-100 becomes 2^-100, which
// adds nothing to a sum that has a 1 in it: processors are slow at still
// smaller numbers. kNear says that there is none. Of NaN comes any number, but
// factor and x are in the results by another way, too.
template <int kWidth, bool kNear>
CAFFE_INLINE void power_of_two(float factor,
    const typename VectorOf<kWidth>::Floats& x,
    typename VectorOf<kWidth>::Floats* power) {
  typedef typename VectorOf<kWidth>::Floats Floats;
  Floats y = factor * x;
  if (!kNear) { y = y < kLeast ? Floats{} + kLeast : y; }
  caffe::power_of_two<typename VectorOf<kWidth>::Bits>(y, power);
}

}  // namespace semantic_attention
}  // namespace caffe

#endif  // CAFFE_UTIL_SEMANTIC_ATTENTION_VECTORS_HPP_
