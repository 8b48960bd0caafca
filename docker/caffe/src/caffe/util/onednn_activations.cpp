#ifdef USE_ONEDNN
#include "caffe/util/onednn_activations.hpp"

namespace caffe {
namespace onednn {

Activations::Activations(int num, int channels, const int size[2], bool half)
    : ordered({num, channels, size[0], size[1]}, kFloat, Tag::nchw),
      has_block(channels % ChannelBlock() == 0) {
  const dnnl::memory::dims dims = ordered.get_dims();
  blocked = Descriptor(dims, kFloat,
      ChannelBlock() == 16 ? Tag::nChw16c : Tag::nChw8c);
  // Blocks of 16 channels are slow to multiply in bf16.
  made = has_block && !half ? blocked : Descriptor(dims, kFloat, Tag::any);
  read = half ? Descriptor(dims, kHalf, Tag::any) : made;
  halves = Descriptor(dims, kHalf, Tag::nhwc);
  half_layout = {num, channels, size[0] * size[1], channels, false, true};
}

dnnl::memory Activations::Read(const Blob<float>& blob, bool diff,
    const Descriptor& layout, ScratchUse use) const {
  const dnnl::memory values = Newest(blob, diff, layout);
  const SyncedMemory& memory = *(diff ? blob.diff() : blob.data());
  return InLayout(layout, values, use,
      memory.watched() ? 0 : memory.version());
}

// The numbers of a blob in the one of its layouts that is nearest to this one.
dnnl::memory Activations::Newest(const Blob<float>& blob, bool diff,
    const Descriptor& layout) const {
  if (!diff && blob.data()->is_blocked(half_layout)) {
    return Wrap(halves, blob.data()->blocked_cpu_data(half_layout));
  }
  const int block = diff ? blob.diff_block() : blob.data_block();
  if (has_block && (layout == blocked ||
      (layout != ordered && block == ChannelBlock()))) {
    return Wrap(blocked, diff ? blob.cpu_diff_in(ChannelBlock()) :
        blob.cpu_data_in(ChannelBlock()));
  }
  return Wrap(ordered, diff ? blob.cpu_diff() : blob.cpu_data());
}

dnnl::memory Activations::Write(Blob<float>* blob, bool diff,
    const Descriptor& layout) const {
  return Direct(layout) ? Place(blob, diff, layout) :
      ScratchMemory(layout, RESULT);
}

void Activations::Written(const dnnl::memory& from, Blob<float>* blob,
    bool diff) const {
  if (!Direct(from.get_desc())) { Reorder(from, Place(blob, diff, kept())); }
}

// Whether a primitive that writes this layout can write into a blob.
bool Activations::Direct(const Descriptor& layout) const {
  return layout == ordered || layout == halves ||
      (has_block && layout == blocked);
}

dnnl::memory Activations::Place(Blob<float>* blob, bool diff,
    const Descriptor& layout) const {
  if (layout == halves) {
    return Wrap(layout,
        blob->data()->overwritten_blocked_cpu_data(half_layout));
  }
  const int block = layout == ordered ? 1 : ChannelBlock();
  return Wrap(layout, diff ? blob->overwritten_cpu_diff_in(block) :
      blob->overwritten_cpu_data_in(block));
}

}  // namespace onednn
}  // namespace caffe
#endif  // USE_ONEDNN
