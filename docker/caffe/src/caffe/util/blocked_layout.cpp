#include "caffe/util/blocked_layout.hpp"

#include <algorithm>
#include <cstdint>
#include <cstring>

#include "caffe/common.hpp"

namespace caffe {

namespace {

// Each slice is a matrix of block x inner that is transposed; this many columns
// of it at a time stay in the first cache with what they become.
const int kColumns = 64;

void BlockSlice(int inner, int block, const float* ordered, float* blocked) {
  for (int start = 0; start < inner; start += kColumns) {
    const int end = std::min(inner, start + kColumns);
    for (int c = 0; c < block; ++c) {
      const float* row = ordered + static_cast<size_t>(c) * inner;
      for (int i = start; i < end; ++i) { blocked[i * block + c] = row[i]; }
    }
  }
}

float Widen(float value) { return value; }

float Widen(uint16_t half) {
  const uint32_t bits = static_cast<uint32_t>(half) << 16;
  float value;
  std::memcpy(&value, &bits, sizeof(value));
  return value;
}

template <typename Number>
void OrderSlice(int inner, int block, const Number* blocked, float* ordered) {
  for (int start = 0; start < inner; start += kColumns) {
    const int end = std::min(inner, start + kColumns);
    for (int c = 0; c < block; ++c) {
      float* row = ordered + static_cast<size_t>(c) * inner;
      for (int i = start; i < end; ++i) {
        row[i] = Widen(blocked[i * block + c]);
      }
    }
  }
}

template <typename Number>
void OrderSlices(const BlockedLayout& layout, const void* blocked,
    float* ordered) {
  const int inner = layout.inner, block = layout.block;
  const int slices = layout.outer * (layout.channels / block);
  const size_t size = static_cast<size_t>(block) * inner;
#pragma omp parallel for
  for (int slice = 0; slice < slices; ++slice) {
    OrderSlice(inner, block,
        static_cast<const Number*>(blocked) + slice * size,
        ordered + slice * size);
  }
}

// Calls copy(ordered index, blocked index) for all parts of weights that belong
// to one output and one block of channels.
template <typename Copy>
void ForWeights(const BlockedLayout& layout, const Copy& copy) {
  const int block = layout.block;
  const int columns = layout.channels / block;
  const size_t tile = static_cast<size_t>(block) * layout.inner;
#pragma omp parallel for
  for (int output = 0; output < layout.outer; ++output) {
    for (int column = 0; column < columns; ++column) {
      const size_t blocked =
          (static_cast<size_t>(output / block) * columns + column) * block *
          tile + output % block;
      copy((static_cast<size_t>(output) * columns + column) * tile, blocked);
    }
  }
}

}  // namespace

void BlockFromOrdered(const BlockedLayout& layout, const float* ordered,
    float* blocked) {
  CHECK(!layout.half) << "nobody writes halves from Caffe's order";
  const int inner = layout.inner, block = layout.block;
  if (layout.weights) {
    ForWeights(layout, [=](size_t from, size_t to) {
      for (int c = 0; c < block; ++c) {
        for (int i = 0; i < inner; ++i) {
          blocked[to + (i * block + c) * block] = ordered[from + c * inner + i];
        }
      }
    });
    return;
  }
  const int slices = layout.outer * (layout.channels / block);
  const size_t size = static_cast<size_t>(block) * inner;
#pragma omp parallel for
  for (int slice = 0; slice < slices; ++slice) {
    BlockSlice(inner, block, ordered + slice * size,
        blocked + slice * size);
  }
}

void OrderFromBlocked(const BlockedLayout& layout, const void* blocked,
    float* ordered) {
  if (!layout.weights) {
    (layout.half ? OrderSlices<uint16_t> : OrderSlices<float>)(layout, blocked,
        ordered);
    return;
  }
  const int inner = layout.inner, block = layout.block;
  const float* const weights = static_cast<const float*>(blocked);
  ForWeights(layout, [=](size_t to, size_t from) {
    for (int c = 0; c < block; ++c) {
      for (int i = 0; i < inner; ++i) {
        ordered[to + c * inner + i] = weights[from + (i * block + c) * block];
      }
    }
  });
}

}  // namespace caffe
