#ifndef CAFFE_UTIL_SEMANTIC_ATTENTION_KERNELS_HPP_
#define CAFFE_UTIL_SEMANTIC_ATTENTION_KERNELS_HPP_

#include <vector>

#include "caffe/util/semantic_attention.hpp"
#include "caffe/util/semantic_attention_vectors.hpp"

namespace caffe {
namespace semantic_attention {

/// Arrays of one thread.
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

/// The kernels for one kind of vectors: of one map and all rows, whose numbers
/// for its channel are e. backward adds to de; df may be NULL.
struct Kernels {
  const char* name;
  void (*forward)(const Sizes& sizes, const float* f, const float* e,
      Scratch* scratch, float* inverse, float* away, float* out);
  void (*backward)(const Sizes& sizes, const float* f, const float* e,
      const float* inverse, const float* away, const float* g,
      Scratch* scratch, float* df, float* de);
};

/// Those that this machine can run, the fastest one last.
std::vector<Kernels> runnable();

}  // namespace semantic_attention
}  // namespace caffe

#endif  // CAFFE_UTIL_SEMANTIC_ATTENTION_KERNELS_HPP_
