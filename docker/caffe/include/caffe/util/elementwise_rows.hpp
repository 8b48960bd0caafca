#ifndef CAFFE_UTIL_ELEMENTWISE_ROWS_HPP_
#define CAFFE_UTIL_ELEMENTWISE_ROWS_HPP_

#include <algorithm>
#include <cstring>

#include "caffe/util/cpu_clones.hpp"
#include "caffe/util/elementwise.hpp"

namespace caffe {

/// How the kernels of elementwise.hpp go through an array: by vectors, and by
/// parts of it that threads share. For their own source files alone.
namespace elementwise {

// All arithmetic is on sixteen numbers at once, whatever the machine's vectors
// hold: so sums are made of the same parts everywhere.
const int kLanes = 16;
typedef float Lanes __attribute__((vector_size(4 * kLanes)));
typedef int Indices __attribute__((vector_size(4 * kLanes)));

CAFFE_INLINE Lanes load(const float* from) {
  Lanes lanes;
  std::memcpy(&lanes, from, sizeof(lanes));
  return lanes;
}

CAFFE_INLINE void store(const Lanes& lanes, float* to) {
  std::memcpy(to, &lanes, sizeof(lanes));
}

// The first `count` numbers, then zeros.
CAFFE_INLINE Lanes load_part(const float* from, int count) {
  Lanes lanes = {};
  std::memcpy(&lanes, from, count * sizeof(float));
  return lanes;
}

CAFFE_INLINE void store_part(const Lanes& lanes, int count, float* to) {
  std::memcpy(to, &lanes, count * sizeof(float));
}

CAFFE_INLINE Lanes positive(const Lanes& x) {
  const Lanes zero = {};
  return x < zero ? zero : x;  // a NaN stays one, as in Caffe
}

// Fewer numbers than this are not worth waking a thread for (assumed).
const size_t kWorthThreads = 1 << 14;
// Numbers that one call of a kernel on a flat array works on (assumed): few
// enough to share evenly, many enough to hide the call.
const size_t kChunk = 1 << 14;

// Calls work(begin, length) for all parts of a flat array.
template <typename Work>
void for_chunks(size_t count, const Work& work) {
  const long chunks = (count + kChunk - 1) / kChunk;
#pragma omp parallel for schedule(static) if (count > kWorthThreads)
  for (long chunk = 0; chunk < chunks; ++chunk) {
    const size_t begin = chunk * kChunk;
    work(begin, std::min(kChunk, count - begin));
  }
}

// Calls work(row) for all rows; a row is the part of an array that belongs to
// one block of channels of one image.
template <typename Work>
void for_rows(long rows, size_t row_length, const Work& work) {
#pragma omp parallel for schedule(static) if (rows * row_length > kWorthThreads)
  for (long row = 0; row < rows; ++row) { work(row); }
}

// Single numbers per channel are the same array in all layouts: take the one
// with the longest rows.
inline Planes with_long_rows(Planes planes) {
  while (planes.inner == 1 && planes.block < kLanes &&
      planes.channels % (2 * planes.block) == 0) {
    planes.block *= 2;
  }
  return planes;
}

inline long row_count(const Planes& planes) {
  return static_cast<long>(planes.outer) * (planes.channels / planes.block);
}

// The channels' parameters as the lanes of a row meet them.
struct Parameters {
  float lanes[kLanes];

  Parameters(const Planes& planes, long row, const float* channels) {
    if (!channels) {
      std::fill(lanes, lanes + kLanes, 0.f);
      return;
    }
    channels += row % (planes.channels / planes.block) * planes.block;
    for (int lane = 0; lane < kLanes; ++lane) {
      lanes[lane] = channels[lane & (planes.block - 1)];
    }
  }
};

}  // namespace elementwise
}  // namespace caffe

#endif  // CAFFE_UTIL_ELEMENTWISE_ROWS_HPP_
