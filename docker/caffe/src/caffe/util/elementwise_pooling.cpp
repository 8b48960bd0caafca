// Pooling: the largest number in each window, and the mean.

#include <algorithm>
#include <cfloat>
#include <cstring>
#include <vector>

#include "caffe/util/elementwise_rows.hpp"

namespace caffe {
namespace elementwise {

namespace {

// The windows' columns pooled = 0, 1, ... whose column number `offset` lies
// inside of the plane.
struct Columns {
  int begin, end;

  Columns(const Window& w, int offset) {
    const int first = w.pad_w - offset;  // pooled * stride must reach this
    begin = first > 0 ? (first + w.stride_w - 1) / w.stride_w : 0;
    const int last = w.width - 1 + w.pad_w - offset;
    end = last < 0 ? 0 : std::min(w.pooled_width, last / w.stride_w + 1);
  }
};

// Takes one row of numbers, a stride apart, into the maxima of a pooled row.
template <int kStride, int kBlock>
CAFFE_INLINE void max_step(int count, const float* x, int index, int stride,
    float* best, int* mask) {
  if (kStride) { stride = kStride; }
  if (kBlock == kLanes) {
    for (int i = 0; i < count; ++i) {
      const Lanes in = load(x + static_cast<size_t>(i) * stride * kLanes);
      const Lanes old = load(best + i * kLanes);
      Indices old_index;
      std::memcpy(&old_index, mask + i * kLanes, sizeof(old_index));
      const Indices zero = {};
      const Indices new_index = (in > old) ? zero + (index + i * stride)
                                           : old_index;
      store(in > old ? in : old, best + i * kLanes);
      std::memcpy(mask + i * kLanes, &new_index, sizeof(new_index));
    }
  } else {
#pragma GCC ivdep
    for (int i = 0; i < count; ++i) {
      for (int lane = 0; lane < kBlock; ++lane) {
        const float in = x[static_cast<size_t>(i) * stride * kBlock + lane];
        const int to = i * kBlock + lane;
        const bool larger = in > best[to];
        best[to] = larger ? in : best[to];
        mask[to] = larger ? index + i * stride : mask[to];
      }
    }
  }
}

template <int kStride, int kBlock>
CAFFE_INLINE void max_pool_row(const Window& w, const float* x, float* y,
    int* mask) {
  const int pooled_length = w.pooled_width * kBlock;
  for (int ph = 0; ph < w.pooled_height; ++ph) {
    float* best = y + static_cast<size_t>(ph) * pooled_length;
    int* index = mask + static_cast<size_t>(ph) * pooled_length;
    std::fill(best, best + pooled_length, -FLT_MAX);
    std::fill(index, index + pooled_length, -1);
    const int top = ph * w.stride_h - w.pad_h;
    const int bottom = std::min(top + w.kernel_h, w.height);
    for (int h = std::max(top, 0); h < bottom; ++h) {
      for (int offset = 0; offset < w.kernel_w; ++offset) {
        const Columns columns(w, offset);
        const int first = h * w.width + columns.begin * w.stride_w - w.pad_w +
            offset;
        max_step<kStride, kBlock>(columns.end - columns.begin,
            x + static_cast<size_t>(first) * kBlock, first, w.stride_w,
            best + columns.begin * kBlock, index + columns.begin * kBlock);
      }
    }
  }
}

CAFFE_CPU_CLONES
void max_pool_row(const Window& w, int block, const float* x, float* y,
    int* mask) {
  if (block == kLanes) {
    max_pool_row<0, kLanes>(w, x, y, mask);
  } else if (block == 8) {
    max_pool_row<0, 8>(w, x, y, mask);
  } else if (w.stride_w == 2) {
    max_pool_row<2, 1>(w, x, y, mask);
  } else if (w.stride_w == 1) {
    max_pool_row<1, 1>(w, x, y, mask);
  } else {
    max_pool_row<0, 1>(w, x, y, mask);
  }
}

// Calls work(pooled index, plane index, size) for all numbers of all windows
// of a plane, in Caffe's order.
template <typename Work>
CAFFE_INLINE void for_windows(const Window& w, const Work& work) {
  for (int ph = 0; ph < w.pooled_height; ++ph) {
    for (int pw = 0; pw < w.pooled_width; ++pw) {
      int top = ph * w.stride_h - w.pad_h, left = pw * w.stride_w - w.pad_w;
      int bottom = std::min(top + w.kernel_h, w.height + w.pad_h);
      int right = std::min(left + w.kernel_w, w.width + w.pad_w);
      const int size = (bottom - top) * (right - left);
      top = std::max(top, 0);
      left = std::max(left, 0);
      bottom = std::min(bottom, w.height);
      right = std::min(right, w.width);
      for (int h = top; h < bottom; ++h) {
        for (int column = left; column < right; ++column) {
          work(ph * w.pooled_width + pw, h * w.width + column, size);
        }
      }
    }
  }
}

// How many numbers the planes of a block of channels have, and their windows.
size_t plane_size(const Planes& planes, const Window& w) {
  return static_cast<size_t>(w.height) * w.width * planes.block;
}

size_t pooled_size(const Planes& planes, const Window& w) {
  return static_cast<size_t>(w.pooled_height) * w.pooled_width * planes.block;
}

// Calls work(plane, pooled) for each block of channels of each image: where its
// planes begin in their array, and where their windows do.
template <typename Work>
void for_planes(const Planes& planes, const Window& w, const Work& work) {
  const size_t length = plane_size(planes, w), pooled = pooled_size(planes, w);
  for_rows(row_count(planes), length, [&](long row) {
    work(row * length, row * pooled);
  });
}

}  // namespace

void max_pool(const Planes& planes, const Window& window, const float* x,
    float* y, int* mask) {
  for_planes(planes, window, [&](size_t plane, size_t pooled) {
    max_pool_row(window, planes.block, x + plane, y + pooled, mask + pooled);
  });
}

void max_pool_backward(const Planes& planes, const Window& window,
    const float* dy, const int* mask, float* dx) {
  const int block = planes.block;
  const size_t windows = pooled_size(planes, window);
  for_planes(planes, window, [&](size_t plane, size_t pooled) {
    float* out = dx + plane;
    const float* in = dy + pooled;
    const int* index = mask + pooled;
    std::fill(out, out + plane_size(planes, window), 0.f);
    for (size_t i = 0; i < windows; ++i) {
      // No index: a window without a number above -FLT_MAX.
      if (index[i] >= 0) {
        out[static_cast<size_t>(index[i]) * block + i % block] += in[i];
      }
    }
  });
}

void average_pool(const Planes& planes, const Window& window, const float* x,
    float* y) {
  const int block = planes.block;
  const size_t windows = pooled_size(planes, window);
  for_planes(planes, window, [&](size_t plane, size_t pooled) {
    const float* in = x + plane;
    float* out = y + pooled;
    std::fill(out, out + windows, 0.f);
    std::vector<int> sizes(windows / block, 1);
    for_windows(window, [&](int to, int from, int size) {
      sizes[to] = size;
      for (int lane = 0; lane < block; ++lane) {
        out[static_cast<size_t>(to) * block + lane] +=
            in[static_cast<size_t>(from) * block + lane];
      }
    });
    for (size_t i = 0; i < windows; ++i) { out[i] /= sizes[i / block]; }
  });
}

void average_pool_backward(const Planes& planes, const Window& window,
    const float* dy, float* dx) {
  const int block = planes.block;
  for_planes(planes, window, [&](size_t plane, size_t pooled) {
    const float* in = dy + pooled;
    float* out = dx + plane;
    std::fill(out, out + plane_size(planes, window), 0.f);
    for_windows(window, [&](int from, int to, int size) {
      for (int lane = 0; lane < block; ++lane) {
        out[static_cast<size_t>(to) * block + lane] +=
            in[static_cast<size_t>(from) * block + lane] / size;
      }
    });
  });
}

}  // namespace elementwise
}  // namespace caffe
