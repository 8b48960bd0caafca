// The part of SyncedMemory that knows of other forms of the numbers on the host
// than Caffe's own: HostBuffer says which, here they meet Caffe's own buffer.

#include <cstring>

#include "caffe/syncedmem.hpp"
#include "caffe/util/math_functions.hpp"

namespace caffe {

void* SyncedMemory::overwritten_cpu_data() {
  host_.Written();
  head_ = cpu_ptr_ ? HEAD_AT_CPU : UNINITIALIZED;
  return mutable_cpu_data();
}

void SyncedMemory::set_zero() {
  if (watched()) {
    caffe_memset(size_, 0, overwritten_cpu_data());
  } else {
    host_.SetZero();
  }
}

// Brings the newest numbers into Caffe's order, if they are not.
void SyncedMemory::Settle() {
  if (host_.state() == HostBuffer::ZERO) {
    caffe_memset(size_, 0, overwritten_cpu_data());
  }
  if (host_.state() == HostBuffer::DEFERRED) { host_.Compute(); }
  if (host_.state() != HostBuffer::BLOCKED) { return; }
  if (cpu_ptr_ == NULL) {
    CaffeMallocHost(&cpu_ptr_, size_, &cpu_malloc_use_cuda_);
    own_cpu_data_ = true;
  }
  host_.Order(cpu_ptr_);
  head_ = HEAD_AT_CPU;
}

const void* SyncedMemory::blocked_cpu_data(const BlockedLayout& layout) {
  if (host_.state() == HostBuffer::DEFERRED) { host_.Compute(); }
  const bool untouched = head_ == UNINITIALIZED;  // Caffe's memory begins as 0
  if (host_.state() == HostBuffer::ZERO || untouched) {
    memset(overwritten_blocked_cpu_data(layout), 0, layout.bytes());
  } else if (!host_.blocked_in(layout)) {
    return host_.CopyBlocked(layout, cpu_data());
  }
  return host_.blocked_data();
}

void* SyncedMemory::mutable_blocked_cpu_data(const BlockedLayout& layout) {
  blocked_cpu_data(layout);
  return overwritten_blocked_cpu_data(layout);
}

void* SyncedMemory::overwritten_blocked_cpu_data(const BlockedLayout& layout) {
  check_device();
  head_ = HEAD_AT_CPU;
  return host_.OverwriteBlocked(layout);
}

void SyncedMemory::free_ordered() {
  if (!(host_.blocked() || deferred()) || watched() || !own_cpu_data_) {
    return;
  }
  CaffeFreeHost(cpu_ptr_, cpu_malloc_use_cuda_);
  cpu_ptr_ = NULL;
  own_cpu_data_ = false;
  host_.ForgetOrdered();
}

}  // namespace caffe
