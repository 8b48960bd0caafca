#include "caffe/util/host_memory.hpp"

#include <malloc.h>
#include <pthread.h>
#include <sys/mman.h>

#include <algorithm>
#include <cstdlib>
#include <iterator>
#include <map>
#include <mutex>  // NOLINT(build/c++11)
#include <unordered_map>

#include "caffe/util/engine.hpp"

namespace caffe {

namespace {

const size_t kLine = 64;
const size_t kPage = 2 << 20;
// Smaller arrays are malloc's.
const size_t kSmallest = 64 << 10;
// Addresses are taken so many at a time. Memory is taken when it is written.
const size_t kRegion = 64 << 20;

size_t RoundUp(size_t number, size_t unit) {
  return (number + unit - 1) / unit * unit;
}

// Arrays side by side in large pages. An array takes the smallest free range
// that has room for it. A page without an array gives its memory back at once.
class PageHeap {
 public:
  void* Allocate(size_t bytes) {
    const std::lock_guard<std::mutex> lock(mutex_);
    const size_t least = RoundUp(bytes, kPage);
    if (least < bytes) { return NULL; }
    bytes = RoundUp(bytes, kLine);
    TrimMalloc(bytes);
    Ranges::iterator best = Smallest(bytes);
    if (best == free_.end()) {
      if (!Grow(std::max(least, kRegion)) && !Grow(least)) { return NULL; }
      best = Smallest(bytes);
    }
    char* const begin = best->first;
    const size_t rest = best->second - bytes;
    free_.erase(best);
    if (rest) { free_[begin + bytes] = rest; }
    used_[begin] = bytes;
    return begin;
  }

  void Lock() { mutex_.lock(); }
  void Unlock() { mutex_.unlock(); }

  // False: the array is not of this heap.
  bool Free(void* data) {
    const std::lock_guard<std::mutex> lock(mutex_);
    const std::unordered_map<void*, size_t>::iterator array = used_.find(data);
    if (array == used_.end()) { return false; }
    GiveBack(static_cast<char*>(data), array->second);
    used_.erase(array);
    return true;
  }

 private:
  // What malloc keeps free is no use here: now and then it gives that back.
  void TrimMalloc(size_t bytes) {
    untrimmed_ += bytes;
    if (untrimmed_ < kRegion) { return; }
    untrimmed_ = 0;
#ifdef __GLIBC__
    malloc_trim(0);
#endif
  }

  typedef std::map<char*, size_t> Ranges;  // by beginning; none touch

  Ranges::iterator Smallest(size_t bytes) {
    Ranges::iterator best = free_.end();
    for (Ranges::iterator i = free_.begin(); i != free_.end(); ++i) {
      if (i->second >= bytes &&
          (best == free_.end() || i->second < best->second)) {
        best = i;
      }
    }
    return best;
  }

  // Adds pages. They begin where a page may: what is before and behind is
  // given back.
  bool Grow(size_t size) {
    void* const mapped = mmap(NULL, size + kPage, PROT_READ | PROT_WRITE,
        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (mapped == MAP_FAILED) { return false; }
    char* const first = static_cast<char*>(mapped);
    char* const begin = PageUp(first);
    if (begin > first) { munmap(first, begin - first); }
    munmap(begin + size, first + kPage - begin);
#ifdef MADV_HUGEPAGE
    madvise(begin, size, MADV_HUGEPAGE);  // a wish: no error matters
#endif
    Insert(begin, size);
    return true;
  }

  // Adds a free range, as one with those that it touches.
  Ranges::iterator Insert(char* begin, size_t size) {
    Ranges::iterator next = free_.lower_bound(begin);
    if (next != free_.end() && begin + size == next->first) {
      size += next->second;
      next = free_.erase(next);
    }
    if (next != free_.begin()) {
      const Ranges::iterator before = std::prev(next);
      if (before->first + before->second == begin) {
        before->second += size;
        return before;
      }
    }
    return free_.insert(next, std::make_pair(begin, size));
  }

  // Makes an array's range free, and gives back the memory of those pages that
  // are free by that; many pages with their addresses.
  void GiveBack(char* begin, size_t size) {
    const Ranges::iterator range = Insert(begin, size);
    char* const end = range->first + range->second;
    char* first = PageUp(range->first);
    char* last = PageDown(end);
    if (last >= first + kRegion && munmap(first, last - first) == 0) {
      range->second = first - range->first;
      if (!range->second) { free_.erase(range); }
      if (end > last) { free_[last] = end - last; }
      return;
    }
    first = std::max(first, PageDown(begin));
    last = std::min(last, PageUp(begin + size));
    if (last > first) { madvise(first, last - first, MADV_DONTNEED); }
  }

  static char* PageDown(char* place) {
    return place - reinterpret_cast<size_t>(place) % kPage;
  }
  static char* PageUp(char* place) { return PageDown(place + kPage - 1); }

  std::mutex mutex_;
  Ranges free_;
  std::unordered_map<void*, size_t> used_;
  size_t untrimmed_ = 0;  // bytes of arrays since malloc was last asked
};

PageHeap& Heap();

// A child of a fork may use the heap, whatever other threads did then.
PageHeap* NewHeap() {
  pthread_atfork([]() { Heap().Lock(); }, []() { Heap().Unlock(); },
      []() { Heap().Unlock(); });
  return new PageHeap;
}

// It outlives whoever frees an array.
PageHeap& Heap() {
  static PageHeap* const heap = NewHeap();
  return *heap;
}

bool InPages(size_t bytes) {
#ifdef __SANITIZE_ADDRESS__
  return false;  // it watches malloc's arrays
#else
  return bytes >= kSmallest && engine::enabled(engine::MEMORY);
#endif
}

}  // namespace

void* AllocateHost(size_t bytes) {
  if (InPages(bytes)) { return Heap().Allocate(bytes); }
  void* data = NULL;
  return posix_memalign(&data, kLine, bytes) == 0 ? data : NULL;
}

void FreeHost(void* data) {
  if (data && !Heap().Free(data)) { free(data); }
}

void* HostMemory::Reserve(size_t bytes) {
  if (bytes > size_) {
    Free();
    data_ = AllocateHost(bytes);
    CHECK(data_) << "host allocation of size " << bytes << " failed";
    size_ = bytes;
  }
  return data_;
}

void HostMemory::Free() {
  FreeHost(data_);
  data_ = NULL;
  size_ = 0;
}

}  // namespace caffe
