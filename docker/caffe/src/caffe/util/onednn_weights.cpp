#ifdef USE_ONEDNN
#include "caffe/util/onednn_weights.hpp"

namespace caffe {
namespace onednn {

WeightLayouts::WeightLayouts(const ConvolutionSizes& s)
    : ordered({s.num_output, s.channels, s.kernel[0], s.kernel[1]}, kFloat,
          Tag::oihw),
      has_block(s.num_output % ChannelBlock() == 0 &&
          s.channels % ChannelBlock() == 0) {
  layout = {s.num_output, s.channels, s.kernel[0] * s.kernel[1],
      ChannelBlock(), true};
  blocked = Descriptor(ordered.get_dims(), kFloat,
      ChannelBlock() == 16 ? Tag::OIhw16i16o : Tag::OIhw8i8o);
}

dnnl::memory WeightLayouts::Newest(const Blob<float>& weight) const {
  return has_block && weight.data()->is_blocked(layout) ?
      Wrap(blocked, weight.data()->blocked_cpu_data(layout)) :
      Wrap(ordered, weight.cpu_data());
}

bool WeightLayouts::TakesGradient(const Descriptor& gradient,
    const Blob<float>& weight) const {
  return has_block && gradient == blocked && weight.diff()->zero() &&
      !weight.diff()->watched();
}

void WeightLayouts::Add(const dnnl::memory& gradient,
    Blob<float>* weight) const {
  if (has_block && weight->diff()->is_blocked(layout)) {
    Reorder(gradient,
        Wrap(blocked, weight->diff()->mutable_blocked_cpu_data(layout)), true);
  } else {
    AddToDiff(gradient, ordered, weight);
  }
}

const void* KeptWeights::Read(const Blob<float>& weight,
    const WeightLayouts& layouts, const Descriptor& layout,
    const boost::function<void(const dnnl::memory&,
        const dnnl::memory&)>& make) {
  const size_t version = weight.data()->watched() ? 0 :
      weight.data()->version();
  if (version && version == kept_version_ && kept_layout_ == layout) {
    return kept_.data();
  }
  const dnnl::memory values = layouts.Newest(weight);
  if (layout == values.get_desc()) { return values.get_data_handle(); }
  // What other nets have, too, they may change, or read at this moment.
  const bool keep = version && version == seen_version_ &&
      weight.data().unique();
  seen_version_ = version;
  kept_version_ = 0;
  if (keep && layouts.has_block && layout == layouts.blocked) {
    // From now on the weights lie so themselves.
    SyncedMemory* const memory = weight.data().get();
    const void* const blocked =
        memory->mutable_blocked_cpu_data(layouts.layout);
    memory->free_ordered();
    return blocked;
  }
  if (!keep) {
    kept_.Free();
    const dnnl::memory copy = ScratchMemory(layout, WEIGHT);
    make(values, copy);
    return copy.get_data_handle();
  }
  kept_layout_ = layout;
  make(values, Wrap(layout, kept_.Reserve(layout.get_size())));
  kept_version_ = version;
  return kept_.data();
}

}  // namespace onednn
}  // namespace caffe
#endif  // USE_ONEDNN
