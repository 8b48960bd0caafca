// The passes for float: which kernels, and what each thread has.

#include "caffe/util/semantic_attention.hpp"

#include <algorithm>
#include <cstdlib>
#include <string>
#include <vector>

#include "caffe/common.hpp"
#include "caffe/util/semantic_attention_kernels.hpp"

namespace caffe {
namespace semantic_attention {

namespace {

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
  return all.front();
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
void gather(const Sizes& sizes, const float* from, int channel, float* to) {
  for (int row = 0; row < sizes.rows; ++row) {
    to[row] = from[1L * row * sizes.channels + channel];
  }
}

void scatter(const Sizes& sizes, const float* from, int channel, float* to) {
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

}  // namespace semantic_attention
}  // namespace caffe
