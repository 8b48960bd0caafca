// CAFFE_ENGINE's part `elementwise`. elementwise_layers.cpp calls these kernels
// for layers and solvers, fusion.cpp for chains of layers.

#include <algorithm>
#include <cfloat>
#include <cstring>
#include <vector>

#include "caffe/util/cpu_clones.hpp"
#include "caffe/util/elementwise.hpp"

namespace caffe {
namespace elementwise {

namespace {

const engine::Provider provider(engine::ELEMENTWISE);

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
// Numbers that are summed up in float before they go into a double.
const size_t kFloatSum = 1 << 13;

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
Planes with_long_rows(Planes planes) {
  while (planes.inner == 1 && planes.block < kLanes &&
      planes.channels % (2 * planes.block) == 0) {
    planes.block *= 2;
  }
  return planes;
}

long row_count(const Planes& planes) {
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

// Calls work(row, begin, count, sums, products) for pieces of all rows, which
// sets two sums of each lane, and adds them by channel. Each of the results may
// be NULL. Each row's sums have a place of their own and are added in order.
template <typename Work>
void sum_rows(const Planes& planes, const Work& work, double* sum,
    double* product) {
  const size_t length = static_cast<size_t>(planes.inner) * planes.block;
  const long rows = row_count(planes);
  const int block = planes.block;
  std::vector<double> partial(2 * rows * block);
  double* const row_sums = partial.data();
  double* const row_products = partial.data() + rows * block;
  for_rows(rows, length, [&](long row) {
    for (size_t done = 0; done < length; done += kFloatSum) {
      float sums[kLanes], products[kLanes];
      work(row, row * length + done, std::min(kFloatSum, length - done), sums,
          products);
      for (int lane = 0; lane < kLanes; ++lane) {
        row_sums[row * block + lane % block] += sums[lane];
        row_products[row * block + lane % block] += products[lane];
      }
    }
  });
  for (int c = 0; c < planes.channels; ++c) {
    double total = 0, total_product = 0;
    for (int n = 0; n < planes.outer; ++n) {
      const size_t row = static_cast<size_t>(n) * planes.channels + c;
      total += row_sums[row];
      total_product += row_products[row];
    }
    if (sum) { sum[c] = total; }
    if (product) { product[c] = total_product; }
  }
}

template <bool kRelu, bool kCopy>
CAFFE_INLINE void affine_row(size_t count, const float* x,
    const Lanes& mean, const Lanes& factor, const Lanes& shift, float* y,
    float* copy) {
  const size_t whole = count - count % kLanes;
  const int rest = count - whole;
  for (size_t i = 0; i < whole; i += kLanes) {
    const Lanes in = load(x + i);
    const Lanes out = (in - mean) * factor + shift;
    if (kCopy) { store(in, copy + i); }
    store(kRelu ? positive(out) : out, y + i);
  }
  if (rest) {
    const Lanes in = load_part(x + whole, rest);
    const Lanes out = (in - mean) * factor + shift;
    if (kCopy) { store_part(in, rest, copy + whole); }
    store_part(kRelu ? positive(out) : out, rest, y + whole);
  }
}

CAFFE_CPU_CLONES
void affine_row(size_t count, const float* x, const Parameters& mean,
    const Parameters& factor, const Parameters& shift, bool relu, float* y,
    float* copy) {
  const Lanes m = load(mean.lanes), f = load(factor.lanes);
  const Lanes s = load(shift.lanes);
  if (copy) {
    if (relu) {
      affine_row<true, true>(count, x, m, f, s, y, copy);
    } else {
      affine_row<false, true>(count, x, m, f, s, y, copy);
    }
  } else {
    if (relu) {
      affine_row<true, false>(count, x, m, f, s, y, copy);
    } else {
      affine_row<false, false>(count, x, m, f, s, y, copy);
    }
  }
}

// What a gradient must pass: nothing, an array, or what affine_row computed.
enum Gate { OPEN, ARRAY, COMPUTED };

// The arrays of one row, from its beginning, and its channels' parameters.
struct BackwardRow {
  const float *dy, *gate, *x;
  float* dx;
  Lanes factor, centre, shift;
};

template <int kGate, bool kProduct, bool kInput>
CAFFE_INLINE void backward_step(const BackwardRow& row, const Lanes& dy,
    const Lanes& gate, const Lanes& x, Lanes* dx, Lanes* sum, Lanes* product) {
  const Lanes zero = {};
  const Lanes centred = x - row.centre;
  Lanes d = dy;
  if (kGate == ARRAY) { d = gate > zero ? dy : zero; }
  if (kGate == COMPUTED) {
    d = centred * row.factor + row.shift > zero ? dy : zero;
  }
  *sum += d;
  if (kProduct) { *product += d * centred; }
  if (kInput) { *dx = d * row.factor; }
}

template <int kGate, bool kProduct, bool kInput>
CAFFE_INLINE void backward_row(size_t count, const BackwardRow& row,
    float* sums, float* products) {
  const bool kReads = kProduct || kGate == COMPUTED;
  const size_t whole = count - count % kLanes;
  const int rest = count - whole;
  const Lanes zero = {};
  Lanes sum = zero, product = zero, out = zero;
  for (size_t i = 0; i < whole; i += kLanes) {
    backward_step<kGate, kProduct, kInput>(row, load(row.dy + i),
        kGate == ARRAY ? load(row.gate + i) : zero,
        kReads ? load(row.x + i) : zero, &out, &sum, &product);
    if (kInput) { store(out, row.dx + i); }
  }
  if (rest) {
    backward_step<kGate, kProduct, kInput>(row, load_part(row.dy + whole, rest),
        kGate == ARRAY ? load_part(row.gate + whole, rest) : zero,
        kReads ? load_part(row.x + whole, rest) : zero, &out, &sum, &product);
    if (kInput) { store_part(out, rest, row.dx + whole); }
  }
  store(sum, sums);
  store(product, products);
}

template <int kGate>
CAFFE_INLINE void backward_row(size_t count, const BackwardRow& row,
    bool product, float* sums, float* products) {
  if (product && row.dx) {
    backward_row<kGate, true, true>(count, row, sums, products);
  } else if (product) {
    backward_row<kGate, true, false>(count, row, sums, products);
  } else if (row.dx) {
    backward_row<kGate, false, true>(count, row, sums, products);
  } else {
    backward_row<kGate, false, false>(count, row, sums, products);
  }
}

CAFFE_CPU_CLONES
void backward_row(size_t count, const float* dy, const float* gate,
    const Parameters& factor, const float* x, const Parameters& centre,
    const Parameters& shift, bool computed_gate, bool product, float* dx,
    float* sums, float* products) {
  const BackwardRow row = { dy, gate, x, dx, load(factor.lanes),
      load(centre.lanes), load(shift.lanes) };
  if (computed_gate) {
    backward_row<COMPUTED>(count, row, product, sums, products);
  } else if (gate) {
    backward_row<ARRAY>(count, row, product, sums, products);
  } else {
    backward_row<OPEN>(count, row, product, sums, products);
  }
}

CAFFE_CPU_CLONES
void moments_row(size_t count, const float* x, const Parameters& centre,
    float* sums, float* squares) {
  const Lanes c = load(centre.lanes);
  const size_t whole = count - count % kLanes;
  Lanes sum = {}, square = {};
  for (size_t i = 0; i < whole; i += kLanes) {
    const Lanes off = load(x + i) - c;
    sum += off;
    square += off * off;
  }
  for (size_t i = whole; i < count; ++i) {
    const float off = x[i] - centre.lanes[i - whole];
    sum[i - whole] += off;
    square[i - whole] += off * off;
  }
  store(sum, sums);
  store(square, squares);
}

CAFFE_CPU_CLONES
void combine_row(size_t count, const float* a, const Parameters& a_factor,
    const float* b, const Parameters& b_factor, const Parameters& shift,
    float* y) {
  const Lanes fa = load(a_factor.lanes), fb = load(b_factor.lanes);
  const Lanes s = load(shift.lanes);
  const size_t whole = count - count % kLanes;
  const int rest = count - whole;
  for (size_t i = 0; i < whole; i += kLanes) {
    store(load(a + i) * fa + load(b + i) * fb + s, y + i);
  }
  if (rest) {
    store_part(load_part(a + whole, rest) * fa + load_part(b + whole, rest) *
        fb + s, rest, y + whole);
  }
}

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

size_t plane_size(const Window& w) {
  return static_cast<size_t>(w.height) * w.width;
}

size_t pooled_size(const Window& w) {
  return static_cast<size_t>(w.pooled_height) * w.pooled_width;
}

}  // namespace

void affine(const Planes& blob, const float* x, const float* mean,
    const float* factor, const float* shift, bool relu, float* y,
    float* copy) {
  const Planes planes = with_long_rows(blob);
  const size_t length = static_cast<size_t>(planes.inner) * planes.block;
  for_rows(row_count(planes), length, [&](long row) {
    const size_t begin = row * length;
    affine_row(length, x + begin, Parameters(planes, row, mean),
        Parameters(planes, row, factor), Parameters(planes, row, shift), relu,
        y + begin, copy ? copy + begin : NULL);
  });
}

void affine_backward(const Planes& blob, const float* dy, const float* gate,
    const float* factor, const float* x, const float* centre, float* dx,
    double* sum, double* product, const float* relu_shift) {
  const Planes planes = with_long_rows(blob);
  sum_rows(planes, [&](long row, size_t begin, size_t count, float* sums,
      float* products) {
    const Parameters row_factor(planes, row, factor);
    const Parameters row_centre(planes, row, centre);
    const Parameters row_shift(planes, row, relu_shift);
    backward_row(count, dy + begin, gate ? gate + begin : NULL, row_factor,
        x ? x + begin : NULL, row_centre, row_shift, relu_shift != NULL,
        product != NULL, dx ? dx + begin : NULL, sums, products);
  }, sum, product);
}

void moments(const Planes& blob, const float* x, double* mean,
    double* variance) {
  const Planes planes = with_long_rows(blob);
  const int block = planes.block;
  // Squares are those of distances from a number that is near the mean.
  const int kNear = std::min(planes.inner, 64);
  std::vector<float> centre(planes.channels);
  for (int c = 0; c < planes.channels; ++c) {
    const float* row = x + static_cast<size_t>(c / block) * planes.inner *
        block + c % block;
    for (int i = 0; i < kNear; ++i) { centre[c] += row[i * block] / kNear; }
  }
  sum_rows(planes, [&](long row, size_t begin, size_t count, float* sums,
      float* squares) {
    moments_row(count, x + begin, Parameters(planes, row, centre.data()), sums,
        squares);
  }, mean, variance);
  const double count = static_cast<double>(planes.outer) * planes.inner;
  for (int c = 0; c < planes.channels; ++c) {
    mean[c] /= count;
    variance[c] = variance[c] / count - mean[c] * mean[c];
    mean[c] += centre[c];
  }
}

void combine(const Planes& blob, const float* a, const float* a_factor,
    const float* b, const float* b_factor, const float* shift, float* y) {
  const Planes planes = with_long_rows(blob);
  const size_t length = static_cast<size_t>(planes.inner) * planes.block;
  for_rows(row_count(planes), length, [&](long row) {
    const size_t begin = row * length;
    combine_row(length, a + begin, Parameters(planes, row, a_factor),
        b + begin, Parameters(planes, row, b_factor),
        Parameters(planes, row, shift), y + begin);
  });
}

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

void max_pool(const Planes& planes, const Window& window, const float* x,
    float* y, int* mask) {
  const int block = planes.block;
  const size_t length = plane_size(window) * block;
  const size_t pooled = pooled_size(window) * block;
  for_rows(row_count(planes), length, [&](long row) {
    max_pool_row(window, block, x + row * length, y + row * pooled,
        mask + row * pooled);
  });
}

void max_pool_backward(const Planes& planes, const Window& window,
    const float* dy, const int* mask, float* dx) {
  const int block = planes.block;
  const size_t length = plane_size(window) * block;
  const size_t pooled = pooled_size(window) * block;
  for_rows(row_count(planes), length, [&](long row) {
    float* out = dx + row * length;
    const float* in = dy + row * pooled;
    const int* index = mask + row * pooled;
    std::fill(out, out + length, 0.f);
    for (size_t i = 0; i < pooled; ++i) {
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
  const size_t length = plane_size(window) * block;
  const size_t pooled = pooled_size(window) * block;
  for_rows(row_count(planes), length, [&](long row) {
    const float* in = x + row * length;
    float* out = y + row * pooled;
    std::fill(out, out + pooled, 0.f);
    std::vector<int> sizes(pooled_size(window), 1);
    for_windows(window, [&](int to, int from, int size) {
      sizes[to] = size;
      for (int lane = 0; lane < block; ++lane) {
        out[static_cast<size_t>(to) * block + lane] +=
            in[static_cast<size_t>(from) * block + lane];
      }
    });
    for (size_t i = 0; i < pooled; ++i) { out[i] /= sizes[i / block]; }
  });
}

void average_pool_backward(const Planes& planes, const Window& window,
    const float* dy, float* dx) {
  const int block = planes.block;
  const size_t length = plane_size(window) * block;
  const size_t pooled = pooled_size(window) * block;
  for_rows(row_count(planes), length, [&](long row) {
    const float* in = dy + row * pooled;
    float* out = dx + row * length;
    std::fill(out, out + length, 0.f);
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
