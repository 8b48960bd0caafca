#ifndef CAFFE_UTIL_ONEDNN_ACTIVATIONS_HPP_
#define CAFFE_UTIL_ONEDNN_ACTIVATIONS_HPP_
#ifdef USE_ONEDNN

#include "caffe/util/onednn_memory.hpp"

namespace caffe {
namespace onednn {

/// The ways in which a blob of activations may lie, and what primitives are
/// asked to read and to make. Halves are written only where what reads them
/// are convolutions, by way of poolings or not.
struct Activations {
  Descriptor ordered, blocked, halves, read, made;
  bool has_block;

  /// half: bf16 is multiplied.
  Activations(int num, int channels, const int size[2], bool half);

  /// As our layers keep them.
  const Descriptor& kept() const { return has_block ? blocked : ordered; }

  /// The numbers of a blob in the layout that a primitive reads. What was
  /// copied last for this use is not copied again.
  const void* Read(const Blob<float>& blob, bool diff,
      const Descriptor& layout, ScratchUse use) const;

  /// Where a primitive that writes this layout has to write to.
  void* Write(Blob<float>* blob, bool diff, const Descriptor& layout) const;
  /// To be called when it has written there.
  void Written(const Descriptor& layout, void* from, Blob<float>* blob,
      bool diff) const;

 private:
  bool Direct(const Descriptor& layout) const;
  const Descriptor& Newest(const Blob<float>& blob, bool diff,
      const Descriptor& layout, const void** numbers) const;
  void* Place(Blob<float>* blob, bool diff, const Descriptor& layout) const;
};

}  // namespace onednn
}  // namespace caffe

#endif  // USE_ONEDNN
#endif  // CAFFE_UTIL_ONEDNN_ACTIVATIONS_HPP_
