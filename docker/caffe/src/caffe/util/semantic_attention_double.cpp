// The passes for double: plain loops.

#include <algorithm>
#include <cmath>
#include <vector>

#include "caffe/util/semantic_attention.hpp"

namespace caffe {
namespace semantic_attention {

namespace {

// Where the products with e are largest.
double extreme_of(const double* map, int positions, double e) {
  return e > 0 ? *std::max_element(map, map + positions) :
      *std::min_element(map, map + positions);
}

}  // namespace

void forward(const Sizes& sizes, const double* features,
    const double* embeddings, double* out, double* inverse, double* away) {
  for (long map = 0; map < 1L * sizes.images * sizes.channels; ++map) {
    const int image = map / sizes.channels, channel = map % sizes.channels;
    const double* const f = features + map * sizes.positions;
    for (int row = 0; row < sizes.rows; ++row) {
      const double e = embeddings[1L * row * sizes.channels + channel];
      const double extreme = extreme_of(f, sizes.positions, e);
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
      const double extreme = extreme_of(f, sizes.positions, e);
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
