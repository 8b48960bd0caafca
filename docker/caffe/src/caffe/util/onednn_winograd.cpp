#ifdef USE_ONEDNN
#include "caffe/util/onednn_winograd.hpp"

#include <algorithm>

#include "caffe/util/engine.hpp"

namespace caffe {
namespace onednn {

namespace {

const engine::Provider winograd_provider(engine::WINOGRAD,
    ChannelBlock() == winograd::kBlock);

// Fewer than this many channels or places make the transforms a larger part of
// the work, or the weights, than is gained.
const int kFewestChannels = 64, kFewestPlaces = 14 * 14;
// Images of one pass, and the transformed numbers of each kind: 16 MB.
const int kMostImages = 4;
const double kMostNumbers = 4 << 20;

double NumbersOf(const ConvolutionSizes& s) {
  return double(winograd::kPlaces) * ((s.output[0] + 1) / 2) *
      ((s.output[1] + 1) / 2) * std::max(s.channels, s.num_output);
}

// The largest number of images that divides all of them.
int ImagesInPass(const ConvolutionSizes& s) {
  int images = kMostImages;
  while (images > 1 &&
      (s.num % images || images * NumbersOf(s) > kMostNumbers)) {
    --images;
  }
  return images;
}

winograd::Tiles TilesOf(const ConvolutionSizes& s, int channels,
    const int size[2]) {
  const winograd::Tiles tiles = {ImagesInPass(s), channels, size[0],
      size[1], (s.output[0] + 1) / 2, (s.output[1] + 1) / 2};
  return tiles;
}

}  // namespace

bool Winograd::Suits(const ConvolutionSizes& s) {
  for (int i = 0; i < 2; ++i) {
    if (s.kernel[i] != 3 || s.stride[i] != 1 || s.dilation[i] != 1) {
      return false;
    }
  }
  return s.only_forward && engine::enabled(engine::WINOGRAD) &&
      s.channels % winograd::kBlock == 0 &&
      s.num_output % winograd::kBlock == 0 &&
      s.channels >= kFewestChannels && s.num_output >= kFewestChannels &&
      s.output[0] * s.output[1] >= kFewestPlaces &&
      NumbersOf(s) <= kMostNumbers;
}

Winograd::Winograd(const ConvolutionSizes& s)
    : pad_{s.pad[0], s.pad[1]}, passes_(s.num / ImagesInPass(s)),
      bottom_(TilesOf(s, s.channels, s.input)),
      top_(TilesOf(s, s.num_output, s.output)) {
  const int tiles = top_.num * top_.rows * top_.columns;
  const dnnl::matmul::primitive_desc description(Engine(),
      Descriptor({winograd::kPlaces, tiles, s.channels}, kFloat, Tag::abc),
      Descriptor({winograd::kPlaces, s.channels, s.num_output}, kFloat,
          Tag::any),
      Descriptor({winograd::kPlaces, tiles, s.num_output}, kFloat, Tag::abc));
  from_ = description.src_desc();
  weights_ = description.weights_desc();
  to_ = description.dst_desc();
  product_ = dnnl::matmul(description);
}

void Winograd::MakeWeights(const dnnl::memory& blocked,
    const dnnl::memory& made) const {
  const Descriptor matrices(weights_.get_dims(), kFloat, Tag::abc);
  const dnnl::memory plain = ScratchMemory(matrices, TILES);
  winograd::TransformWeights(top_.channels, bottom_.channels,
      static_cast<const float*>(blocked.get_data_handle()),
      static_cast<float*>(plain.get_data_handle()));
  Reorder(plain, made);
}

void Winograd::Forward(const float* bottom, const void* weights,
    const winograd::Epilogue& epilogue, float* top) {
  const dnnl::memory tiles = ScratchMemory(from_, TILES);
  const dnnl::memory products = ScratchMemory(to_, PRODUCTS);
  const size_t step = static_cast<size_t>(bottom_.num) * bottom_.channels *
      bottom_.height * bottom_.width;
  const size_t made = static_cast<size_t>(top_.num) * top_.channels *
      top_.height * top_.width;
  winograd::Epilogue part = epilogue;
  for (int pass = 0; pass < passes_; ++pass) {
    winograd::TransformInput(bottom_, pad_, bottom + pass * step,
        static_cast<float*>(tiles.get_data_handle()));
    product_.execute(Stream(), {{DNNL_ARG_SRC, tiles},
        {DNNL_ARG_WEIGHTS, Wrap(weights_, weights)},
        {DNNL_ARG_DST, products}});
    if (epilogue.addend) { part.addend = epilogue.addend + pass * made; }
    winograd::TransformOutput(top_,
        static_cast<const float*>(products.get_data_handle()), part,
        top + pass * made);
  }
}

}  // namespace onednn
}  // namespace caffe
#endif  // USE_ONEDNN
