// What multiplies and adds by channel, as BatchNorm and Scale do.

#include "caffe/util/elementwise_rows.hpp"

namespace caffe {
namespace elementwise {

namespace {

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

}  // namespace elementwise
}  // namespace caffe
