#ifndef CAFFE_UTIL_HOST_BUFFER_HPP_
#define CAFFE_UTIL_HOST_BUFFER_HPP_

#include <boost/function.hpp>

#include <cstddef>

#include "caffe/common.hpp"
#include "caffe/util/blocked_layout.hpp"
#include "caffe/util/host_memory.hpp"

namespace caffe {

/**
 * @brief In which form the newest numbers of a SyncedMemory lie on the host,
 *        and a second buffer beside Caffe's own, for a blocked layout.
 *
 *   state     the newest numbers are          entered by
 *   ORDERED   where SyncedMemory's head says  Written, CopyBlocked
 *   BLOCKED   in the blocked buffer alone     OverwriteBlocked, ForgetOrdered
 *   BOTH      in it and in Caffe's own        Order
 *   ZERO      zeros, not yet written          SetZero
 *   DEFERRED  not yet computed                Defer
 *
 * What has been handed out for writing in Caffe's order may be written at any
 * time until something is written in a blocked layout. Hence ORDERED numbers
 * are copied into a blocked layout anew each time, and stay ORDERED.
 */
class HostBuffer {
 public:
  enum State { ORDERED, BLOCKED, BOTH, ZERO, DEFERRED };

  /// `size`: bytes of the numbers, the largest that any layout may need.
  explicit HostBuffer(size_t size);

  State state() const { return state_; }
  /// Whether the blocked buffer holds the newest numbers.
  bool blocked() const { return state_ == BLOCKED || state_ == BOTH; }
  bool blocked_in(const BlockedLayout& layout) const {
    return blocked() && layout_ == layout;
  }
  const BlockedLayout& layout() const { return layout_; }
  /// A number that is another one after each time that a pointer for writing
  /// was handed out, and that no other buffer has had.
  size_t version() const { return version_; }

  /// A pointer for writing in Caffe's order is handed out.
  void Written();
  /// A pointer for writing all numbers in a blocked layout.
  void* OverwriteBlocked(const BlockedLayout& layout);
  /// The blocked buffer: what is in it is up to the state.
  void* blocked_data() { return blocked_.data(); }
  /// Copies numbers from Caffe's order; the copy is good until the next call.
  void* CopyBlocked(const BlockedLayout& layout, const void* ordered);
  /// BLOCKED only: copies the numbers into Caffe's order.
  void Order(void* ordered);
  /// The numbers in Caffe's order were given up; nothing if not BOTH.
  void ForgetOrdered();
  void SetZero();
  /// `compute` writes the numbers, by a pointer for one who reads none: the old
  /// numbers are gone. It is forgotten where they are written before.
  void Defer(const boost::function<void()>& compute);
  /// What would do so; empty in any other state.
  const boost::function<void()>& computation() const { return compute_; }
  /// DEFERRED only: has them written. If that throws, they stay deferred.
  void Compute();

  /// Something to hold for as long as a pointer to the numbers in Caffe's
  /// order is kept outside of Caffe, by a NumPy array for instance.
  shared_ptr<void> Watch();
  bool watched() const;

 private:
  void Enter(State state);
  void Allocate(const BlockedLayout& layout);

  const size_t size_;
  State state_;
  size_t version_;
  HostMemory blocked_;
  BlockedLayout layout_;
  boost::function<void()> compute_;
  shared_ptr<void> watch_;

  DISABLE_COPY_AND_ASSIGN(HostBuffer);
};

}  // namespace caffe

#endif  // CAFFE_UTIL_HOST_BUFFER_HPP_
