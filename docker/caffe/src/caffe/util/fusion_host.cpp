// Chains of layers on the CPU, CAFFE_ENGINE's part `fusion`: the convolution
// and all that follows it by oneDNN, or with a second pass by our own kernels.

#include <boost/bind/bind.hpp>

#include <cmath>

#include "caffe/layers/batch_norm_layer.hpp"
#include "caffe/layers/conv_layer.hpp"
#include "caffe/layers/scale_layer.hpp"
#include "caffe/util/chain_kernels.hpp"
#include "caffe/util/elementwise.hpp"
#include "caffe/util/engine.hpp"
#include "caffe/util/fusion.hpp"

namespace caffe {

namespace {

#ifdef USE_ONEDNN
const engine::Provider fusion_provider(engine::FUSION);
#endif

}  // namespace

// Sets what BatchNorm and Scale multiply by and add; false if a backward pass
// through Scale needs its input and cannot recover it from its output.
bool ChainFusion::Affine(Chain* chain) {
  if (chain->norm < 0 && chain->scale < 0) { return true; }
  const int channels = tops_[chain->convolution][0]->shape(1);
  chain->factor.assign(channels, 1);
  chain->shift.assign(channels, 0);
  if (chain->scale >= 0) {
    scale_of(*chain).Affine(&chain->factor, &chain->shift);
    const bool recovers = need_backward_[chain->scale] &&
        layers_[chain->scale]->param_propagate_down(0);
    for (int c = 0; recovers && c < channels; ++c) {
      // Not a number is not recoverable either.
      if (!(kernels::kLargestRatio * std::fabs(chain->factor[c]) >
          std::fabs(chain->shift[c]))) {
        return false;
      }
    }
  }
  if (chain->norm >= 0) {
    static_cast<BatchNormLayer<float>&>(*layers_[chain->norm]).Affine(
        &chain->factor, &chain->shift);
  }
  return true;
}

void ChainFusion::Convolve(const Chain& chain, const Blob<float>* addend,
    bool relu, bool half, Blob<float>* top) {
  ConvolutionEpilogue epilogue;
  if (!chain.factor.empty()) {
    epilogue.factor = chain.factor.data();
    epilogue.shift = chain.shift.data();
  }
  epilogue.addend = addend;
  epilogue.relu = relu;
  epilogue.half = half;
  const vector<Blob<float>*> tops(1, top);
  CHECK(static_cast<ConvolutionLayer<float>&>(*layers_[chain.convolution])
      .ForwardEngine(bottoms_[chain.convolution], tops, epilogue));
}

void ChainFusion::ComputeBranch(int convolution) {
  Blob<float>* const branch = tops_[convolution][0];
  Convolve(chains_[by_first_[convolution]], NULL, false, false, branch);
}

int ChainFusion::Forward(int first, int last) {
  if (Caffe::mode() == Caffe::GPU) { return ForwardOnDevice(first, last); }
  if (by_first_[first] < 0) { return 0; }
  Chain& chain = chains_[by_first_[first]];
  chain.fused = chain.deferred = false;
  if (chain.last > last) { return 0; }
  for (int i = first; i <= chain.last; ++i) {
    layers_[i]->Reshape(bottoms_[i], tops_[i]);
  }
  ConvolutionLayer<float>& convolution =
      static_cast<ConvolutionLayer<float>&>(*layers_[first]);
  if (!convolution.PrepareOneDNN(*bottoms_[first][0]) || !Affine(&chain)) {
    return 0;
  }
  chain.fused = true;
  if (chain.scale >= 0) {
    scale_of(chain).passes()->ComputedElsewhere();
  }
  Blob<float>* const branch = tops_[first][0];
  if (chain.eltwise < 0) {
    Convolve(chain, NULL, chain.relu >= 0, chain.half, branch);
    branch->order_watched_data();
    return chain.last - first + 1;
  }
  const Blob<float>& addend = *bottoms_[chain.eltwise][chain.addend];
  Blob<float>* const top = tops_[chain.eltwise][0];
  // The backward pass through Scale reads the branch. And out of memory that
  // is used again, nothing can be computed later.
  const bool keep = branch->data()->watched() ||
      (bottoms_[first][0]->data()->pooled() && !branch->data()->pooled()) ||
      (chain.scale >= 0 && need_backward_[chain.scale] &&
       layers_[first]->layer_param().phase() == TRAIN);
  if (keep) {
    Convolve(chain, NULL, false, false, branch);
    const int block = branch->data_block();
    elementwise::sum(top->count(), 1, branch->cpu_data_in(block), 1,
        addend.cpu_data_in(block), chain.relu >= 0,
        top->overwritten_cpu_data_in(block));
    branch->order_watched_data();
  } else {
    Convolve(chain, &addend, chain.relu >= 0, chain.half, top);
    if (!branch->data()->pooled()) {
      chain.deferred = true;
      branch->data()->Defer(
          boost::bind(&ChainFusion::ComputeBranch, this, first));
    }
  }
  top->order_watched_data();
  return chain.last - first + 1;
}

int ChainFusion::Backward(int last, int first) {
  if (Caffe::mode() == Caffe::GPU) { return BackwardOnDevice(last, first); }
  if (by_last_[last] < 0) { return 0; }
  const Chain& chain = chains_[by_last_[last]];
  if (!chain.fused || chain.scale < 0 || chain.convolution + 1 < first) {
    return 0;
  }
  ScaleLayer<float>& scale = scale_of(chain);
  // The layers may have been computed one by one since.
  if (scale.passes()->input_kept()) { return 0; }
  for (int i = chain.convolution + 1; i <= chain.last; ++i) {
    if (!need_backward_[i]) { return 0; }
    for (int j = 0; j < bottoms_[i].size(); ++j) {
      if (!bottom_need_backward_[i][j]) { return 0; }
    }
  }
  Blob<float>* const branch = tops_[chain.convolution][0];
  const int block = branch->data_block();
  const float* gradient;
  if (chain.eltwise >= 0) {
    const Blob<float>& top = *tops_[chain.eltwise][0];
    Blob<float>* const addend = bottoms_[chain.eltwise][chain.addend];
    const float* dy = top.cpu_diff_in(block);
    float* dx = addend->overwritten_cpu_diff_in(block);
    if (chain.relu >= 0) {
      elementwise::relu_backward(top.count(), top.cpu_data_in(block), dy, 0,
          dx);
    } else {
      elementwise::scale(top.count(), 1, dy, dx);
    }
    gradient = dx;
  } else {
    gradient = branch->cpu_diff_in(block);
  }
  scale.passes()->BackwardInPlace(scale.Parts(), gradient,
      chain.eltwise < 0 && chain.relu >= 0, chain.factor.data(), true, block,
      branch);
  branch->order_watched_diff();
  if (chain.eltwise >= 0) {
    bottoms_[chain.eltwise][chain.addend]->order_watched_diff();
  }
  return chain.last - chain.convolution;
}

}  // namespace caffe
