#include "caffe/util/host_buffer.hpp"

#include <boost/make_shared.hpp>

#include <atomic>
#include <cstdlib>

namespace caffe {

namespace {

size_t NewVersion() {
  static std::atomic<size_t> last(0);
  return ++last;
}

}  // namespace

HostBuffer::HostBuffer(size_t size)
    : size_(size), state_(ORDERED), version_(NewVersion()), blocked_(NULL) {}

HostBuffer::~HostBuffer() {
  free(blocked_);
}

// The numbers are about to change.
void HostBuffer::Enter(State state) {
  state_ = state;
  compute_.clear();
  version_ = NewVersion();
}

void HostBuffer::Allocate(const BlockedLayout& layout) {
  const size_t kCacheLine = 64;
  CHECK_LE(layout.bytes(), size_);
  if (!blocked_) {
    const size_t lines = (size_ + kCacheLine - 1) / kCacheLine;
    CHECK_EQ(0, posix_memalign(&blocked_, kCacheLine, lines * kCacheLine))
        << "host allocation of size " << size_ << " failed";
  }
  layout_ = layout;
}

void HostBuffer::Written() {
  Enter(ORDERED);
}

void* HostBuffer::OverwriteBlocked(const BlockedLayout& layout) {
  Allocate(layout);
  Enter(BLOCKED);
  return blocked_;
}

void* HostBuffer::CopyBlocked(const BlockedLayout& layout,
    const void* ordered) {
  Allocate(layout);
  state_ = ORDERED;
  BlockFromOrdered(layout, static_cast<const float*>(ordered),
      static_cast<float*>(blocked_));
  return blocked_;
}

void HostBuffer::Order(void* ordered) {
  OrderFromBlocked(layout_, blocked_, static_cast<float*>(ordered));
  state_ = BOTH;
}

void HostBuffer::ForgetOrdered() {
  if (state_ == BOTH) { state_ = BLOCKED; }
}

void HostBuffer::SetZero() {
  Enter(ZERO);
}

void HostBuffer::Defer(const boost::function<void()>& compute) {
  Enter(DEFERRED);
  compute_ = compute;
}

void HostBuffer::Compute() {
  // A copy: it is cleared when it writes.
  const boost::function<void()> compute = compute_;
  compute();
}

shared_ptr<void> HostBuffer::Watch() {
  if (!watch_) { watch_ = boost::make_shared<char>(); }
  return watch_;
}

bool HostBuffer::watched() const {
  return watch_ && !watch_.unique();
}

}  // namespace caffe
