#ifndef CAFFE_UTIL_ONEDNN_MEMORY_HPP_
#define CAFFE_UTIL_ONEDNN_MEMORY_HPP_
#ifdef USE_ONEDNN

#include <oneapi/dnnl/dnnl.hpp>

#include <cstddef>

#include "caffe/blob.hpp"

namespace caffe {

/**
 * What the convolutions that oneDNN computes are made of. Here: oneDNN's view
 * of numbers in memory, and the copying from one layout into another.
 */
namespace onednn {

typedef dnnl::memory::desc Descriptor;
typedef dnnl::memory::format_tag Tag;

const dnnl::memory::data_type kFloat = dnnl::memory::data_type::f32;
const dnnl::memory::data_type kHalf = dnnl::memory::data_type::bf16;

/// The uses of a thread's scratch memory; each has some of its own.
enum ScratchUse {
  BOTTOM, TOP, WEIGHT, BIAS, RESULT, TILES, PRODUCTS, SCRATCH_COUNT
};

const dnnl::engine& Engine();
/// The stream of this thread.
dnnl::stream& Stream();

/// How many channels the widest vectors of this machine hold: 16 or 8.
int ChannelBlock();

dnnl::memory Wrap(const Descriptor& descriptor, const void* data);

/// The same numbers, described otherwise; or the part with this number of them,
/// where they are several times as many.
dnnl::memory As(const Descriptor& descriptor, const dnnl::memory& memory,
    int part = 0);

/// Memory of this thread, until the next call for this use.
dnnl::memory ScratchMemory(const Descriptor& descriptor, ScratchUse use);

/// Copies into another layout; adds to what is there if asked to.
void Reorder(dnnl::memory from, dnnl::memory to, bool add = false);

/// The numbers themselves where they lie in this layout, or else a copy in the
/// scratch memory of a use. It is not made again where that holds this version
/// of them in this layout. Version 0 is never known again.
dnnl::memory InLayout(const Descriptor& layout, const dnnl::memory& values,
    ScratchUse use, size_t version = 0);

/// Adds a gradient to a blob's diff in Caffe's order.
void AddToDiff(const dnnl::memory& gradient, const Descriptor& ordered,
    Blob<float>* blob);

}  // namespace onednn
}  // namespace caffe

#endif  // USE_ONEDNN
#endif  // CAFFE_UTIL_ONEDNN_MEMORY_HPP_
