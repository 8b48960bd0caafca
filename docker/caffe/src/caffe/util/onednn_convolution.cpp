// Convolutions by oneDNN 3, CAFFE_ENGINE's part `onednn`, where Caffe is built
// with -DUSE_ONEDNN=ON; without it OneDNNConvolution computes nothing.

#include "caffe/util/onednn_convolution.hpp"

#ifdef USE_ONEDNN
#include <boost/make_shared.hpp>
#endif

#include "caffe/util/engine.hpp"
#include "caffe/util/onednn_primitives.hpp"

namespace caffe {

bool ConvolutionSizes::operator==(const ConvolutionSizes& other) const {
  bool equal = num == other.num && channels == other.channels &&
      num_output == other.num_output && bias == other.bias &&
      only_forward == other.only_forward;
  for (int i = 0; i < 2; ++i) {
    equal = equal && input[i] == other.input[i] &&
        output[i] == other.output[i] && kernel[i] == other.kernel[i] &&
        stride[i] == other.stride[i] && pad[i] == other.pad[i] &&
        dilation[i] == other.dilation[i];
  }
  return equal;
}

#ifdef USE_ONEDNN

namespace {

const engine::Provider onednn_provider(engine::ONEDNN);

// Whether the processor multiplies bf16.
bool HasBF16() {
  // An instruction set is the set of bits of all those that it contains.
  const int kBF16 = dnnl_cpu_isa_avx512_core_bf16;
  return (dnnl_get_effective_cpu_isa() & kBF16) == kBF16;
}

const engine::Provider bf16_provider(engine::BF16, HasBF16());

// Shapes that are kept ready for one layer (the last batch is often smaller).
const int kPreparedShapes = 4;

// In bf16 where that is asked for, and oneDNN has all passes in it.
shared_ptr<onednn::Primitives> MakePrimitives(const ConvolutionSizes& sizes) {
  if (engine::enabled(engine::BF16)) {
    try {
      return boost::make_shared<onednn::Primitives>(sizes, true);
    } catch (const dnnl::error& error) {
      LOG(INFO) << "A convolution stays in float (" << error.what() << ").";
    }
  }
  return boost::make_shared<onednn::Primitives>(sizes, false);
}

}  // namespace

OneDNNConvolution::OneDNNConvolution()
    : current_(NULL), weights_(new onednn::KeptWeights) {}

bool OneDNNConvolution::Prepare(const ConvolutionSizes& sizes) {
  if (!engine::enabled(engine::ONEDNN)) { return false; }
  if (current_ && current_->sizes() == sizes) { return true; }
  for (int i = 0; i < prepared_.size(); ++i) {
    if (prepared_[i]->sizes() == sizes) {
      current_ = prepared_[i].get();
      return true;
    }
  }
  try {
    const shared_ptr<onednn::Primitives> primitives = MakePrimitives(sizes);
    if (prepared_.size() == kPreparedShapes) {
      prepared_.erase(prepared_.begin());
    }
    prepared_.push_back(primitives);
    current_ = primitives.get();
    return true;
  } catch (const dnnl::error& error) {
    LOG_FIRST_N(WARNING, 1) << "oneDNN cannot compute a convolution ("
        << error.what() << "): it is computed by Caffe.";
    current_ = NULL;
    return false;
  }
}

void OneDNNConvolution::Forward(const Blob<float>& bottom,
    const Blob<float>& weight, const Blob<float>* bias, Blob<float>* top,
    const ConvolutionEpilogue& epilogue) {
  current_->Forward(bottom, weight, bias, epilogue, weights_.get(), top);
}

void OneDNNConvolution::BackwardBottom(const Blob<float>& top,
    const Blob<float>& weight, Blob<float>* bottom) {
  current_->BackwardBottom(top, weight, bottom);
}

void OneDNNConvolution::BackwardWeight(const Blob<float>& top,
    const Blob<float>& bottom, Blob<float>* weight, Blob<float>* bias) {
  current_->BackwardWeight(top, bottom, weight, bias);
}

#else  // USE_ONEDNN

OneDNNConvolution::OneDNNConvolution() : current_(NULL) {}
bool OneDNNConvolution::Prepare(const ConvolutionSizes&) { return false; }
void OneDNNConvolution::Forward(const Blob<float>&, const Blob<float>&,
    const Blob<float>*, Blob<float>*, const ConvolutionEpilogue&) {}
void OneDNNConvolution::BackwardBottom(const Blob<float>&, const Blob<float>&,
    Blob<float>*) {}
void OneDNNConvolution::BackwardWeight(const Blob<float>&, const Blob<float>&,
    Blob<float>*, Blob<float>*) {}

#endif  // USE_ONEDNN

OneDNNConvolution::~OneDNNConvolution() {}

}  // namespace caffe
