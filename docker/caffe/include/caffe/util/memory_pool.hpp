#ifndef CAFFE_UTIL_MEMORY_POOL_HPP_
#define CAFFE_UTIL_MEMORY_POOL_HPP_

#include <cstddef>
#include <vector>

#include "caffe/common.hpp"
#include "caffe/syncedmem.hpp"

namespace caffe {

/// From which step to which (both included) an array of `bytes` is needed.
struct Lifetime {
  int begin, end;
  size_t bytes;
};

/// Memory for arrays of which some are not needed at the same time: one object
/// for each lifetime, the same one for several. Arrays whose lifetimes are less
/// than `slack` steps apart do not share.
vector<shared_ptr<SyncedMemory> > PoolMemory(const vector<Lifetime>& lifetimes,
    int slack);

}  // namespace caffe

#endif  // CAFFE_UTIL_MEMORY_POOL_HPP_
