#ifdef USE_ONEDNN
#include "caffe/util/onednn_memory.hpp"

#include "caffe/util/host_memory.hpp"

namespace caffe {
namespace onednn {

const dnnl::engine& Engine() {
  static const dnnl::engine cpu(dnnl::engine::kind::cpu, 0);
  return cpu;
}

dnnl::stream& Stream() {
  static thread_local dnnl::stream stream(Engine());
  return stream;
}

int ChannelBlock() {
  const int kAvx512 = dnnl_cpu_isa_avx512_core;
  static const int block =
      (dnnl_get_effective_cpu_isa() & kAvx512) == kAvx512 ? 16 : 8;
  return block;
}

dnnl::memory Wrap(const Descriptor& descriptor, const void* data) {
  return dnnl::memory(descriptor, Engine(), const_cast<void*>(data));
}

dnnl::memory As(const Descriptor& descriptor, const dnnl::memory& memory,
    int part) {
  return dnnl::memory(descriptor, Engine(),
      static_cast<char*>(memory.get_data_handle()) +
      part * descriptor.get_size());
}

dnnl::memory ScratchMemory(const Descriptor& descriptor, ScratchUse use) {
  static thread_local HostMemory scratch[SCRATCH_COUNT];
  return dnnl::memory(descriptor, Engine(),
      scratch[use].Reserve(descriptor.get_size()));
}

void Reorder(dnnl::memory from, dnnl::memory to, bool add) {
  dnnl::primitive_attr attributes;
  if (add) {
    dnnl::post_ops operations;
    operations.append_sum(1.f);
    attributes.set_post_ops(operations);
  }
  dnnl::reorder(from, to, attributes).execute(Stream(), from, to);
}

dnnl::memory InLayout(const Descriptor& layout, const dnnl::memory& values,
    ScratchUse use, size_t version) {
  static thread_local size_t held[SCRATCH_COUNT];
  static thread_local Descriptor layouts[SCRATCH_COUNT];
  if (layout == values.get_desc()) { return values; }
  const dnnl::memory copied = ScratchMemory(layout, use);
  if (version == 0 || version != held[use] || layouts[use] != layout) {
    Reorder(values, copied);
    held[use] = version;
    layouts[use] = layout;
  }
  return copied;
}

void AddToDiff(const dnnl::memory& gradient, const Descriptor& ordered,
    Blob<float>* blob) {
  const bool add = !blob->diff()->zero();
  Reorder(gradient, Wrap(ordered, add ? blob->mutable_cpu_diff() :
      blob->overwritten_cpu_diff_in(1)), add);
}

}  // namespace onednn
}  // namespace caffe
#endif  // USE_ONEDNN
