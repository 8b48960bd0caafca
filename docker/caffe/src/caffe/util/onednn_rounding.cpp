// With vectors of 16 some of oneDNN's kernels add up many channels one after
// another. Where there is a way around it, the forward pass is seen as another
// convolution of the same numbers, which rounds less.
#ifdef USE_ONEDNN
#include "caffe/util/onednn_primitives.hpp"

namespace caffe {
namespace onednn {

namespace {

// How many rows a 1 x 1 convolution is computed in. Of 2, 4 and 8, the nearest
// to double precision over 2048 channels.
const int kRows = 4;
// Up to so many channels are summed one by one where the kernel has so many
// places.
const int kFewChannels = 4, kManyPlaces = 49;

}  // namespace

// oneDNN's kernels for 1 x 1 convolutions add up to 512 channels one after
// another. Those for larger ones add up 16 channels of the kernel's places, and
// then such sums: their rounding is half of that, in the same time. In blocks,
// channels by height x width are the same numbers as a fourth of the channels
// by 4 x (height x width). So the forward pass is seen as a convolution of
// these with a kernel of 4 x 1.
void Primitives::SeeRows() {
  const ConvolutionSizes& s = sizes_;
  for (int i = 0; i < 2; ++i) {
    if (s.kernel[i] != 1 || s.stride[i] != 1 || s.pad[i] != 0 ||
        s.dilation[i] != 1) {
      return;
    }
  }
  if (s.channels % (kRows * 16) != 0 ||
      forward_description_.weights_desc() != weight_.blocked) {
    return;
  }
  const int channels = s.channels / kRows, places = s.input[0] * s.input[1];
  seen_ = true;
  seen_bottom_ = Descriptor({s.num, channels, kRows, places}, kFloat,
      Tag::nChw16c);
  seen_weight_ = Descriptor({s.num_output, channels, kRows, 1}, kFloat,
      Tag::OIhw16i16o);
  seen_top_ = Descriptor({s.num, s.num_output, 1, places}, kFloat,
      Tag::nChw16c);
}

// In the same kernels 3 channels of 7 x 7 places are added one after another.
// Here the forward pass is one pass a channel, and image, which add up.
void Primitives::SeeChannels() {
  const ConvolutionSizes& s = sizes_;
  if (s.channels == 1 || s.channels > kFewChannels ||
      s.kernel[0] * s.kernel[1] < kManyPlaces) {
    return;
  }
  images_ = s.num;
  parts_ = s.channels;
  seen_ = true;
  seen_bottom_ = Activations(1, 1, s.input, false).ordered;
  seen_weight_ = Descriptor({s.num_output, 1, s.kernel[0], s.kernel[1]},
      kFloat, Tag::any);
  seen_top_ = Activations(1, s.num_output, s.output, false).blocked;
  seen_weight_ = DescribeForward(dnnl::primitive_attr(), s.bias, seen_top_)
      .weights_desc();
}

const void* Primitives::WeightsByChannel(const Blob<float>& weight) const {
  const int size = seen_weight_.get_size();
  const Descriptor all({parts_ * size}, dnnl::memory::data_type::u8, Tag::a);
  const dnnl::memory weights = ScratchMemory(all, WEIGHT);
  for (int part = 0; part < parts_; ++part) {
    const Descriptor channel = weight_.ordered.submemory_desc(
        seen_weight_.get_dims(), {0, part, 0, 0});
    Reorder(Wrap(channel, weight.cpu_data()), As(seen_weight_, weights, part));
  }
  return weights.get_data_handle();
}

}  // namespace onednn
}  // namespace caffe
#endif  // USE_ONEDNN
