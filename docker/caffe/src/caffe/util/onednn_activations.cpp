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
}

const void* Activations::Read(const Blob<float>& blob, bool diff,
    const Descriptor& layout, ScratchUse use) const {
  const void* numbers;
  const Descriptor& newest = Newest(blob, diff, layout, &numbers);
  if (newest == layout) { return numbers; }
  const SyncedMemory& memory = *(diff ? blob.diff() : blob.data());
  return InLayout(layout, Wrap(newest, numbers), use,
      memory.watched() ? 0 : memory.version()).get_data_handle();
}

// The numbers of a blob in the one of its layouts that is nearest to this one.
const Descriptor& Activations::Newest(const Blob<float>& blob, bool diff,
    const Descriptor& layout, const void** numbers) const {
  if (!diff && blob.data_in_halves()) {
    *numbers = blob.cpu_halves();
    return halves;
  }
  const int block = diff ? blob.diff_block() : blob.data_block();
  if (has_block && (layout == blocked ||
      (layout != ordered && block == ChannelBlock()))) {
    *numbers = diff ? blob.cpu_diff_in(ChannelBlock()) :
        blob.cpu_data_in(ChannelBlock());
    return blocked;
  }
  *numbers = diff ? blob.cpu_diff() : blob.cpu_data();
  return ordered;
}

void* Activations::Write(Blob<float>* blob, bool diff,
    const Descriptor& layout) const {
  return Direct(layout) ? Place(blob, diff, layout) :
      ScratchMemory(layout, RESULT).get_data_handle();
}

void Activations::Written(const Descriptor& layout, void* from,
    Blob<float>* blob, bool diff) const {
  if (!Direct(layout)) {
    Reorder(Wrap(layout, from), Wrap(kept(), Place(blob, diff, kept())));
  }
}

// Whether a primitive that writes this layout can write into a blob.
bool Activations::Direct(const Descriptor& layout) const {
  return layout == ordered || layout == halves ||
      (has_block && layout == blocked);
}

void* Activations::Place(Blob<float>* blob, bool diff,
    const Descriptor& layout) const {
  if (layout == halves) { return blob->overwritten_cpu_halves(); }
  const int block = layout == ordered ? 1 : ChannelBlock();
  return diff ? blob->overwritten_cpu_diff_in(block) :
      blob->overwritten_cpu_data_in(block);
}

}  // namespace onednn
}  // namespace caffe
#endif  // USE_ONEDNN
