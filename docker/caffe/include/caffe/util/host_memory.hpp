#ifndef CAFFE_UTIL_HOST_MEMORY_HPP_
#define CAFFE_UTIL_HOST_MEMORY_HPP_

#include <cstddef>

#include "caffe/common.hpp"

namespace caffe {

/// Memory of the host, aligned to 64 bytes; NULL where there is none.
///
/// With CAFFE_ENGINE's part `memory` larger arrays lie side by side in pages of
/// 2 MB, where the system gives these to those who ask (on Linux the setting
/// `madvise` or `always` of transparent huge pages). With pages of 4 KB a
/// convolution waits a third of its time for the addresses of pages.
void* AllocateHost(size_t bytes);

/// Frees what AllocateHost has given, by whichever way; NULL is nothing.
void FreeHost(void* data);

/// An array of the host that grows.
class HostMemory {
 public:
  HostMemory() : data_(NULL), size_(0) {}
  ~HostMemory() { FreeHost(data_); }

  /// Room for so many bytes. What was in it is gone where it has grown.
  void* Reserve(size_t bytes);
  void Free();
  void* data() const { return data_; }

 private:
  void* data_;
  size_t size_;

  DISABLE_COPY_AND_ASSIGN(HostMemory);
};

}  // namespace caffe

#endif  // CAFFE_UTIL_HOST_MEMORY_HPP_
