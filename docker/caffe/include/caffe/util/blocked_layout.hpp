#ifndef CAFFE_UTIL_BLOCKED_LAYOUT_HPP_
#define CAFFE_UTIL_BLOCKED_LAYOUT_HPP_

#include <cstddef>

namespace caffe {

/**
 * @brief How an array of outer x channels x inner floats lies in memory where
 *        convolutions like it best: outer x channels / block x inner x block,
 *        or, weights, outer / block x channels / block x inner x block (of
 *        channels) x block (of outer). block divides what it cuts. half: the
 *        numbers are bf16, the upper halves of floats.
 */
struct BlockedLayout {
  int outer, channels, inner, block;
  bool weights, half;
  size_t bytes() const {
    return (half ? sizeof(float) / 2 : sizeof(float)) * outer * channels *
        inner;
  }
  bool operator==(const BlockedLayout& other) const {
    return outer == other.outer && channels == other.channels &&
        inner == other.inner && block == other.block &&
        weights == other.weights && half == other.half;
  }
};

/// Copies numbers in Caffe's order into a blocked layout of floats.
void BlockFromOrdered(const BlockedLayout& layout, const float* ordered,
    float* blocked);
/// Copies numbers in a blocked layout into Caffe's order.
void OrderFromBlocked(const BlockedLayout& layout, const void* blocked,
    float* ordered);

}  // namespace caffe

#endif  // CAFFE_UTIL_BLOCKED_LAYOUT_HPP_
