// What sums up by channel: gradients of factors and shifts, and statistics.

#include <algorithm>
#include <vector>

#include "caffe/util/elementwise_rows.hpp"

namespace caffe {
namespace elementwise {

namespace {

// Numbers that are summed up in float before they go into a double.
const size_t kFloatSum = 1 << 13;

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

}  // namespace

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

}  // namespace elementwise
}  // namespace caffe
