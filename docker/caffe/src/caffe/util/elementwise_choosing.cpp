// Pooling that computes nothing: the largest number in each window of bf16, and
// the number of windows of one.

#include <algorithm>
#include <cstdint>
#include <cstring>

#include "caffe/util/elementwise_rows.hpp"

namespace caffe {
namespace elementwise {

namespace {

typedef uint16_t Halves __attribute__((vector_size(2 * kLanes)));
typedef uint32_t Bits __attribute__((vector_size(4 * kLanes)));

// What no number is smaller than: -FLT_MAX has more digits than bf16.
const uint16_t kLeast = 0xFF7F;

CAFFE_INLINE Lanes widen(const uint16_t* from, int count) {
  Halves halves = {};
  std::memcpy(&halves, from, count * sizeof(uint16_t));
  const Bits bits = __builtin_convertvector(halves, Bits) << 16;
  Lanes lanes;
  std::memcpy(&lanes, &bits, sizeof(lanes));
  return lanes;
}

// Of the same number of channels of all pixels of a window. `pixels`: of one
// row of the window; rows are row_length numbers apart.
CAFFE_INLINE void max_of_window(int rows, int pixels, int count, int channels,
    size_t row_length, const uint16_t* x, uint16_t* y) {
  const Bits least = Bits{} + (static_cast<uint32_t>(kLeast) << 16);
  Lanes best;
  std::memcpy(&best, &least, sizeof(best));
  for (int row = 0; row < rows; ++row) {
    const uint16_t* from = x + row * row_length;
    for (int pixel = 0; pixel < pixels; ++pixel) {
      const Lanes in = widen(from + static_cast<size_t>(pixel) * channels,
          count);
      best = in > best ? in : best;
    }
  }
  Bits bits;
  std::memcpy(&bits, &best, sizeof(bits));
  const Halves halves = __builtin_convertvector(bits >> 16, Halves);
  std::memcpy(y, &halves, count * sizeof(uint16_t));
}

CAFFE_CPU_CLONES
void max_pool_row(const Window& w, int channels, int ph, const uint16_t* x,
    uint16_t* y) {
  const int above = ph * w.stride_h - w.pad_h, top = std::max(above, 0);
  const int rows = std::min(above + w.kernel_h, w.height) - top;
  const size_t row_length = static_cast<size_t>(w.width) * channels;
  for (int pw = 0; pw < w.pooled_width; ++pw) {
    const int before = pw * w.stride_w - w.pad_w, left = std::max(before, 0);
    const int pixels = std::min(before + w.kernel_w, w.width) - left;
    const uint16_t* from =
        x + top * row_length + static_cast<size_t>(left) * channels;
    uint16_t* to = y + static_cast<size_t>(pw) * channels;
    int c = 0;
    for (; c + kLanes <= channels; c += kLanes) {
      max_of_window(rows, pixels, kLanes, channels, row_length, from + c,
          to + c);
    }
    if (c < channels) {
      max_of_window(rows, pixels, channels - c, channels, row_length, from + c,
          to + c);
    }
  }
}

}  // namespace

void max_pool_halves(int num, int channels, const Window& w, const uint16_t* x,
    uint16_t* y) {
  const size_t row = static_cast<size_t>(w.pooled_width) * channels;
  const size_t image = static_cast<size_t>(w.height) * w.width * channels;
  for_rows(static_cast<long>(num) * w.pooled_height, row, [&](long to) {
    max_pool_row(w, channels, to % w.pooled_height,
        x + to / w.pooled_height * image, y + to * row);
  });
}

bool single(const Window& w) {
  return w.kernel_h == 1 && w.kernel_w == 1 && w.pad_h == 0 && w.pad_w == 0 &&
      (w.pooled_height - 1) * w.stride_h < w.height &&
      (w.pooled_width - 1) * w.stride_w < w.width;
}

template <typename Number>
void pick(const Planes& planes, const Window& w, const Number* x, Number* y) {
  const int block = planes.block;
  const size_t row = static_cast<size_t>(w.pooled_width) * block;
  for_rows(row_count(planes) * w.pooled_height, row, [&](long to) {
    const long plane = to / w.pooled_height, ph = to % w.pooled_height;
    const Number* from =
        x + (plane * w.height + ph * w.stride_h) * w.width * block;
    Number* out = y + to * row;
    for (int pw = 0; pw < w.pooled_width; ++pw) {
      std::copy(from, from + block, out);
      from += w.stride_w * block;
      out += block;
    }
  });
}

template void pick<float>(const Planes&, const Window&, const float*, float*);
template void pick<uint16_t>(const Planes&, const Window&, const uint16_t*,
    uint16_t*);

}  // namespace elementwise
}  // namespace caffe
