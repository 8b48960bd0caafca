#include "caffe/util/semantic_attention.hpp"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "caffe/common.hpp"
#include "caffe/util/cpu_clones.hpp"
#include "caffe/util/power_of_two.hpp"

namespace caffe {
namespace semantic_attention {

namespace {

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

// Arrays of one thread.
class Scratch {
 public:
  explicit Scratch(const Sizes& sizes)
      : positions_((sizes.positions + kLanes - 1L) / kLanes * kLanes),
        rows_(sizes.rows),
        memory_(3 * positions_ + 6 * rows_ + kLanes * rows_) {}

  float* map(int number) { return &memory_[number * positions_]; }
  float* row(int number) {
    return &memory_[3 * positions_ + number * rows_];
  }

 private:
  const size_t positions_, rows_;
  std::vector<float> memory_;
};

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

// The kernels for one kind of vectors.
struct Kernels {
  const char* name;
  void (*forward)(const Sizes& sizes, const float* f, const float* e,
      Scratch* scratch, float* inverse, float* away, float* out);
  void (*backward)(const Sizes& sizes, const float* f, const float* e,
      const float* inverse, const float* away, const float* g,
      Scratch* scratch, float* df, float* de);
};

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

// Those that this machine can run, the fastest one last.
std::vector<Kernels> runnable() {
  std::vector<Kernels> found(1, baseline);
#ifdef SEMANTIC_ATTENTION_DISPATCH
  __builtin_cpu_init();
  if (__builtin_cpu_supports("x86-64-v3")) { found.push_back(avx2); }
  if (__builtin_cpu_supports("x86-64-v4")) { found.push_back(avx512); }
#endif
  return found;
}

Kernels chosen() {
  const std::vector<Kernels> all = runnable();
  const char* const variable = std::getenv("CAFFE_VECTORS");
  const std::string asked(variable ? variable : "");
  if (asked.empty()) { return all.back(); }
  std::string names;
  for (int i = 0; i < all.size(); ++i) {
    if (asked == all[i].name) { return all[i]; }
    names += std::string(i ? ", " : "") + all[i].name;
  }
  LOG(FATAL) << "CAFFE_VECTORS=" << asked << ": this machine has " << names;
  return baseline;
}

const Kernels& kernels() {
  static const Kernels once = chosen();
  return once;
}

// Fewer exponentials than this are not worth waking a thread for (assumed).
const long kWorthThreads = 1 << 12;

bool worth_threads(const Sizes& sizes) {
  return 1L * sizes.images * sizes.channels * sizes.positions * sizes.rows >
      kWorthThreads;
}

// From [rows][channels] to the rows of one channel, and back.
template <typename Dtype>
void gather(const Sizes& sizes, const Dtype* from, int channel, Dtype* to) {
  for (int row = 0; row < sizes.rows; ++row) {
    to[row] = from[1L * row * sizes.channels + channel];
  }
}

template <typename Dtype>
void scatter(const Sizes& sizes, const Dtype* from, int channel, Dtype* to) {
  for (int row = 0; row < sizes.rows; ++row) {
    to[1L * row * sizes.channels + channel] = from[row];
  }
}

}  // namespace

void forward(const Sizes& sizes, const float* features, const float* embeddings,
    float* out, float* inverse, float* away) {
  const Kernels& use = kernels();
  const long maps = 1L * sizes.images * sizes.channels;
#pragma omp parallel if (worth_threads(sizes))
  {
    Scratch scratch(sizes);
    float* const e = scratch.row(0), *const mean = scratch.row(1);
#pragma omp for schedule(static)
    for (long map = 0; map < maps; ++map) {
      const int image = map / sizes.channels, channel = map % sizes.channels;
      gather(sizes, embeddings, channel, e);
      use.forward(sizes, features + map * sizes.positions, e, &scratch,
          inverse + map * sizes.rows, away + map * sizes.rows, mean);
      scatter(sizes, mean, channel,
          out + 1L * image * sizes.rows * sizes.channels);
    }
  }
}

// A thread has a channel of all images: their sum does not depend on threads.
void backward(const Sizes& sizes, const float* features,
    const float* embeddings, const float* inverse, const float* away,
    const float* out_diff, float* features_diff, float* embeddings_diff) {
  const Kernels& use = kernels();
#pragma omp parallel if (worth_threads(sizes))
  {
    Scratch scratch(sizes);
    float* const e = scratch.row(0), *const g = scratch.row(1);
    std::vector<float> de(sizes.rows);
#pragma omp for schedule(static)
    for (int channel = 0; channel < sizes.channels; ++channel) {
      gather(sizes, embeddings, channel, e);
      std::fill(de.begin(), de.end(), 0.f);
      for (int image = 0; image < sizes.images; ++image) {
        const long map = 1L * image * sizes.channels + channel;
        gather(sizes, out_diff + 1L * image * sizes.rows * sizes.channels,
            channel, g);
        use.backward(sizes, features + map * sizes.positions, e,
            inverse + map * sizes.rows, away + map * sizes.rows, g, &scratch,
            features_diff ? features_diff + map * sizes.positions : NULL,
            de.data());
      }
      if (embeddings_diff) {
        scatter(sizes, de.data(), channel, embeddings_diff);
      }
    }
  }
}

void forward(const Sizes& sizes, const double* features,
    const double* embeddings, double* out, double* inverse, double* away) {
  for (long map = 0; map < 1L * sizes.images * sizes.channels; ++map) {
    const int image = map / sizes.channels, channel = map % sizes.channels;
    const double* const f = features + map * sizes.positions;
    for (int row = 0; row < sizes.rows; ++row) {
      const double e = embeddings[1L * row * sizes.channels + channel];
      const double extreme = e > 0 ? *std::max_element(f, f + sizes.positions) :
          *std::min_element(f, f + sizes.positions);
      double sum = 0, product = 0;
      for (int p = 0; p < sizes.positions; ++p) {
        const double weight = std::exp(e * (f[p] - extreme));
        sum += weight;
        product += weight * (f[p] - extreme);
      }
      inverse[map * sizes.rows + row] = 1 / sum;
      away[map * sizes.rows + row] = product / sum;
      out[(1L * image * sizes.rows + row) * sizes.channels + channel] =
          product / sum + extreme;
    }
  }
}

void backward(const Sizes& sizes, const double* features,
    const double* embeddings, const double* inverse, const double* away,
    const double* out_diff, double* features_diff, double* embeddings_diff) {
  std::vector<double> df(sizes.positions);
  std::vector<double> de(1L * sizes.rows * sizes.channels);
  for (long map = 0; map < 1L * sizes.images * sizes.channels; ++map) {
    const int image = map / sizes.channels, channel = map % sizes.channels;
    const double* const f = features + map * sizes.positions;
    std::fill(df.begin(), df.end(), 0.);
    for (int row = 0; row < sizes.rows; ++row) {
      const long number = 1L * row * sizes.channels + channel;
      const double e = embeddings[number];
      const double g =
          out_diff[1L * image * sizes.rows * sizes.channels + number];
      const double extreme = e > 0 ? *std::max_element(f, f + sizes.positions) :
          *std::min_element(f, f + sizes.positions);
      for (int p = 0; p < sizes.positions; ++p) {
        const double part = g * inverse[map * sizes.rows + row] *
            std::exp(e * (f[p] - extreme));
        const double off = f[p] - extreme - away[map * sizes.rows + row];
        df[p] += part * (1 + e * off);
        de[number] += part * off * off;
      }
    }
    if (features_diff) {
      std::copy(df.begin(), df.end(), features_diff + map * sizes.positions);
    }
  }
  if (embeddings_diff) { std::copy(de.begin(), de.end(), embeddings_diff); }
}

}  // namespace semantic_attention
}  // namespace caffe
