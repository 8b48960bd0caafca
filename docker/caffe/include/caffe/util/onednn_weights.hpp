#ifndef CAFFE_UTIL_ONEDNN_WEIGHTS_HPP_
#define CAFFE_UTIL_ONEDNN_WEIGHTS_HPP_
#ifdef USE_ONEDNN

#include <boost/function.hpp>

#include "caffe/util/blocked_layout.hpp"
#include "caffe/util/onednn_convolution.hpp"
#include "caffe/util/onednn_memory.hpp"

namespace caffe {
namespace onednn {

/// Weights in Caffe's order and in the layout that most primitives read and
/// write, in which a parameter stays as long as only they and the solver use
/// it.
///
/// In training gradients stay in the layout in which oneDNN writes weights, and
/// with them, from SGD's first update on, the weights and their history; they
/// are put in Caffe's order when somebody asks for them (snapshots, NumPy).
/// ClearParamDiffs notes zeros instead of writing them: the first gradient is
/// then written, not added.
struct WeightLayouts {
  Descriptor ordered, blocked;
  BlockedLayout layout;
  bool has_block;

  explicit WeightLayouts(const ConvolutionSizes& sizes);

  /// The weights as they lie.
  dnnl::memory Newest(const Blob<float>& weight) const;

  /// Whether a gradient in this layout is to be written to the diff itself.
  bool TakesGradient(const Descriptor& gradient,
      const Blob<float>& weight) const;

  /// Adds a gradient to the diff.
  void Add(const dnnl::memory& gradient, Blob<float>* weight) const;
};

/// The weights in the layout that the forward pass reads. They are kept once
/// they have been the same twice, and as long as nobody can have written to
/// them: each pointer for writing changes the version, and while a NumPy array
/// of them is alive they are not kept. Where the layout is the one in which
/// weights may stay, they are not copied but put there.
class KeptWeights {
 public:
  /// make: copies the weights as they lie into that layout.
  const void* Read(const Blob<float>& weight, const WeightLayouts& layouts,
      const Descriptor& layout, const boost::function<void(
          const dnnl::memory&, const dnnl::memory&)>& make);

 private:
  size_t seen_version_ = 0, kept_version_ = 0;
  HostMemory kept_;
  Descriptor kept_layout_;
};

}  // namespace onednn
}  // namespace caffe

#endif  // USE_ONEDNN
#endif  // CAFFE_UTIL_ONEDNN_WEIGHTS_HPP_
