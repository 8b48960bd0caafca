#include "caffe/util/host_buffer.hpp"

#include <boost/make_shared.hpp>

#include <atomic>

namespace caffe {

namespace {

size_t NewVersion() {
  static std::atomic<size_t> last(0);
  return ++last;
}

}  // namespace

HostBuffer::HostBuffer(size_t size)
    : size_(size), state_(ORDERED), version_(NewVersion()) {}

// The numbers are about to change.
void HostBuffer::Enter(State state) {
  state_ = state;
  compute_.clear();
  version_ = NewVersion();
}

void HostBuffer::Allocate(const BlockedLayout& layout) {
  CHECK_LE(layout.bytes(), size_);
  blocked_.Reserve(size_);
  layout_ = layout;
}

void HostBuffer::Written() {
  Enter(ORDERED);
}

void* HostBuffer::OverwriteBlocked(const BlockedLayout& layout) {
  Allocate(layout);
  Enter(BLOCKED);
  return blocked_.data();
}

void* HostBuffer::CopyBlocked(const BlockedLayout& layout,
    const void* ordered) {
  Allocate(layout);
  state_ = ORDERED;
  BlockFromOrdered(layout, static_cast<const float*>(ordered),
      static_cast<float*>(blocked_.data()));
  return blocked_.data();
}

void HostBuffer::Order(void* ordered) {
  OrderFromBlocked(layout_, blocked_.data(), static_cast<float*>(ordered));
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
