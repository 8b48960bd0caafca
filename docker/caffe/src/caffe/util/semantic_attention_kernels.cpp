#include "caffe/util/semantic_attention_kernels.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

namespace caffe {
namespace semantic_attention {

namespace {

// A map seen from its extremes: f - maximum, for rows whose e is positive, and
// f - minimum for the others, with zeros behind the last position.
struct Map {
  float* from[2];
  float extreme[2];
  int whole;               // positions before the last `kLanes` or fewer
  float is_there[kLanes];  // 1, or 0 behind the last position

  // Whether no product is below kLeast.
  bool is_near(float factor) const {
    return std::abs(factor) * (extreme[0] - extreme[1]) <= -kLeast;
  }
};

CAFFE_INLINE int side_of(float e) { return e > 0 ? 0 : 1; }

template <int kWidth>
CAFFE_INLINE void see(const float* f, int positions, Scratch* scratch,
    Map* map) {
  typedef typename VectorOf<kWidth>::Floats Floats;
  float maximum = f[0], minimum = f[0];
  int p = 0;
  if (positions >= kWidth) {
    Floats high, low;
    load(f, &high);
    low = high;
    for (p = kWidth; p + kWidth <= positions; p += kWidth) {
      Floats x;
      load(f + p, &x);
      high = x > high ? x : high;
      low = x < low ? x : low;
    }
    for (int lane = 0; lane < kWidth; ++lane) {
      maximum = std::max(maximum, high[lane]);
      minimum = std::min(minimum, low[lane]);
    }
  }
  for (; p < positions; ++p) {
    maximum = std::max(maximum, f[p]);
    minimum = std::min(minimum, f[p]);
  }
  map->extreme[0] = maximum;
  map->extreme[1] = minimum;
  map->whole = (positions - 1) / kLanes * kLanes;
  for (int lane = 0; lane < kLanes; ++lane) {
    map->is_there[lane] = map->whole + lane < positions;
  }
  for (int side = 0; side < 2; ++side) {
    map->from[side] = scratch->map(side);
    for (p = 0; p < positions; ++p) {
      map->from[side][p] = f[p] - map->extreme[side];
    }
    for (; p < map->whole + kLanes; ++p) { map->from[side][p] = 0; }
  }
}

// The sum of the weights of one row and that of their products with the map.
template <int kWidth, bool kNear>
CAFFE_INLINE void sums_of_row(const Map& map, const float* from, float factor,
    float* weights, float* products) {
  typedef typename VectorOf<kWidth>::Floats Floats;
  const int kParts = kLanes / kWidth;
  Floats sum[kParts] = {}, product[kParts] = {}, x, weight;
  for (int p = 0; p < map.whole; p += kLanes) {
#pragma GCC unroll 4
    for (int part = 0; part < kParts; ++part) {
      load(from + p + part * kWidth, &x);
      power_of_two<kWidth, kNear>(factor, x, &weight);
      sum[part] += weight;
      product[part] += weight * x;
    }
  }
#pragma GCC unroll 4
  for (int part = 0; part < kParts; ++part) {
    Floats is_there;
    load(from + map.whole + part * kWidth, &x);
    load(map.is_there + part * kWidth, &is_there);
    power_of_two<kWidth, kNear>(factor, x, &weight);
    weight *= is_there;
    sum[part] += weight;
    product[part] += weight * x;
  }
  *weights = total(sum);
  *products = total(product);
}

template <int kWidth>
CAFFE_INLINE void forward_map(const Sizes& sizes, const float* f,
    const float* e, Scratch* scratch, float* inverse, float* away, float* out) {
  Map map;
  see<kWidth>(f, sizes.positions, scratch, &map);
  const float range = map.extreme[0] - map.extreme[1];
  for (int row = 0; row < sizes.rows; ++row) {
    const int side = side_of(e[row]);
    const float factor = e[row] * kLog2E;
    float weights, products;
    if (map.is_near(factor)) {
      sums_of_row<kWidth, true>(map, map.from[side], factor, &weights,
          &products);
    } else {
      sums_of_row<kWidth, false>(map, map.from[side], factor, &weights,
          &products);
    }
    inverse[row] = 1 / weights;
    // A difference of the same is 0, or NaN where it is not finite.
    away[row] = products * inverse[row] + (range - range) + (e[row] - e[row]);
    out[row] = away[row] + map.extreme[side];
  }
}

// The rows of one side, one behind the other.
struct Side {
  int rows;
  float *factor, *away;  // e log2(e); m - extreme
  float *slope, *shift;  // g e / sum, g / sum
  float* square;         // kLanes partial sums a row of w (f - m)^2 / g
};

// For kCount vectors of a map: adds to df what the rows of one side give.
template <int kWidth, bool kNear, int kCount>
CAFFE_INLINE void backward_part(const Side& side, const float* from, int part,
    const float* is_there, float* df) {
  typedef typename VectorOf<kWidth>::Floats Floats;
  Floats x[kCount], sum[kCount], mask;
#pragma GCC unroll 4
  for (int i = 0; i < kCount; ++i) {
    load(from + i * kLanes, &x[i]);
    load(df + i * kLanes, &sum[i]);
  }
  if (is_there) { load(is_there, &mask); }
  float* square_of = side.square + part;
  for (int row = 0; row < side.rows; ++row) {
    Floats square;
    load(square_of + row * kLanes, &square);
    const float factor = side.factor[row], away = side.away[row];
    const float slope = side.slope[row], shift = side.shift[row];
#pragma GCC unroll 4
    for (int i = 0; i < kCount; ++i) {
      const Floats off = x[i] - away;
      Floats weight;
      power_of_two<kWidth, kNear>(factor, x[i], &weight);
      if (is_there) { weight *= mask; }
      sum[i] += weight * (slope * off + shift);
      square += weight * off * off;
    }
    store(square, square_of + row * kLanes);
  }
#pragma GCC unroll 4
  for (int i = 0; i < kCount; ++i) { store(sum[i], df + i * kLanes); }
}

// Adds to df and to the squares what the rows of one side give.
template <int kWidth, bool kNear>
CAFFE_INLINE void backward_side(const Map& map, const Side& side,
    const float* from, float* df) {
  const int kCount = 4;
  for (int part = 0; part < kLanes; part += kWidth) {
    int p = part;
    for (; p + (kCount - 1) * kLanes < map.whole; p += kCount * kLanes) {
      backward_part<kWidth, kNear, kCount>(side, from + p, part, NULL, df + p);
    }
    for (; p < map.whole; p += kLanes) {
      backward_part<kWidth, kNear, 1>(side, from + p, part, NULL, df + p);
    }
    backward_part<kWidth, kNear, 1>(side, from + p, part, map.is_there + part,
        df + p);
  }
}

// de is added to.
template <int kWidth>
CAFFE_INLINE void backward_map(const Sizes& sizes, const float* f,
    const float* e, const float* inverse, const float* away, const float* g,
    Scratch* scratch, float* df, float* de) {
  typedef typename VectorOf<kWidth>::Floats Floats;
  Map map;
  see<kWidth>(f, sizes.positions, scratch, &map);
  float* const sum = scratch->map(2);
  std::fill(sum, sum + map.whole + kLanes, 0.f);
  Side side = {0, scratch->row(2), scratch->row(3), scratch->row(4),
      scratch->row(5), scratch->row(6)};
  for (int number = 0; number < 2; ++number) {
    side.rows = 0;
    bool near = true;
    for (int row = 0; row < sizes.rows; ++row) {
      if (side_of(e[row]) != number) { continue; }
      const float shift = g[row] * inverse[row];
      side.factor[side.rows] = e[row] * kLog2E;
      near = near && map.is_near(side.factor[side.rows]);
      side.away[side.rows] = away[row];
      side.slope[side.rows] = shift * e[row];
      side.shift[side.rows++] = shift;
    }
    std::fill(side.square, side.square + side.rows * kLanes, 0.f);
    if (near) {
      backward_side<kWidth, true>(map, side, map.from[number], sum);
    } else {
      backward_side<kWidth, false>(map, side, map.from[number], sum);
    }
    for (int row = 0, place = 0; row < sizes.rows; ++row) {
      if (side_of(e[row]) != number) { continue; }
      Floats square[kLanes / kWidth];
      std::memcpy(square, side.square + kLanes * place++, sizeof(square));
      de[row] += g[row] * inverse[row] * total(square);
    }
  }
  if (df) { std::memcpy(df, sum, sizes.positions * sizeof(float)); }
}

#define SEMANTIC_ATTENTION_KERNELS(name, target, width) \
  target void forward_##name(const Sizes& sizes, const float* f, \
      const float* e, Scratch* scratch, float* inverse, float* away, \
      float* out) { \
    forward_map<width>(sizes, f, e, scratch, inverse, away, out); \
  } \
  target void backward_##name(const Sizes& sizes, const float* f, \
      const float* e, const float* inverse, const float* away, \
      const float* g, Scratch* scratch, float* df, float* de) { \
    backward_map<width>(sizes, f, e, inverse, away, g, scratch, df, de); \
  } \
  const Kernels name = { #name, forward_##name, backward_##name };

SEMANTIC_ATTENTION_KERNELS(baseline, , 4)
// Not by CAFFE_CPU_CLONES: GCC takes vectors wider than the machine's apart
// into single numbers where they are compared, so each kind has its own width.
#if defined(__x86_64__) && defined(__GNUC__) && __GNUC__ >= 12 && \
    !defined(__clang__)
SEMANTIC_ATTENTION_KERNELS(avx2, __attribute__((target("arch=x86-64-v3"))), 8)
SEMANTIC_ATTENTION_KERNELS(avx512, __attribute__((target("arch=x86-64-v4"))),
    16)
#define SEMANTIC_ATTENTION_DISPATCH
#endif

}  // namespace

std::vector<Kernels> runnable() {
  std::vector<Kernels> found(1, baseline);
#ifdef SEMANTIC_ATTENTION_DISPATCH
  __builtin_cpu_init();
  if (__builtin_cpu_supports("x86-64-v3")) { found.push_back(avx2); }
  if (__builtin_cpu_supports("x86-64-v4")) { found.push_back(avx512); }
#endif
  return found;
}

}  // namespace semantic_attention
}  // namespace caffe
