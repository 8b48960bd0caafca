#include "caffe/util/fusion.hpp"

#include <boost/bind/bind.hpp>

#include <cmath>
#include <stdexcept>
#include <string>

#include "caffe/layers/batch_norm_layer.hpp"
#include "caffe/layers/conv_layer.hpp"
#include "caffe/layers/scale_layer.hpp"
#include "caffe/util/chain_kernels.hpp"
#include "caffe/util/elementwise.hpp"
#include "caffe/util/engine.hpp"

namespace caffe {

namespace {

#ifdef USE_ONEDNN
const engine::Provider fusion_provider(engine::FUSION);
#endif

void NetIsGone() {
  throw std::runtime_error("the data of this blob were not computed yet, and "
      "its net, which could do so, is gone");
}

bool IsType(const Layer<float>& layer, const char* type) {
  return std::string(layer.type()) == type;
}

// Where a part of a chain is computed layer by layer backward, only the layers
// of the part `elementwise` can do so from what the chain has left.
bool UsedOnCPU() {
  return engine::enabled(engine::FUSION) &&
      engine::enabled(engine::ELEMENTWISE);
}

}  // namespace

shared_ptr<ChainFusion> MakeChainFusion(
    const vector<shared_ptr<Layer<float> > >& layers,
    const ChainFusion::BlobVectors& bottoms,
    const ChainFusion::BlobVectors& tops, const vector<bool>& need_backward,
    const vector<vector<bool> >& bottom_need_backward) {
  shared_ptr<ChainFusion> fusion;
  if (UsedOnCPU() || engine::enabled(engine::DEVICE)) {
    fusion.reset(new ChainFusion(layers, bottoms, tops, need_backward,
        bottom_need_backward));
  }
  return fusion;
}

ChainFusion::ChainFusion(const vector<shared_ptr<Layer<float> > >& layers,
    const BlobVectors& bottoms, const BlobVectors& tops,
    const vector<bool>& need_backward,
    const vector<vector<bool> >& bottom_need_backward)
    : layers_(layers), bottoms_(bottoms), tops_(tops),
      need_backward_(need_backward),
      bottom_need_backward_(bottom_need_backward),
      by_first_(layers.size(), -1), by_last_(layers.size(), -1),
      by_layer_(layers.size(), -1) {
  for (int i = 0; i < layers.size(); ++i) {
    Chain chain;
    if (!Find(i, &chain)) { continue; }
    by_first_[i] = by_last_[chain.last] = chains_.size();
    for (int j = i; j <= chain.last; ++j) { by_layer_[j] = chains_.size(); }
    chains_.push_back(chain);
  }
  for (int i = 0; i < chains_.size(); ++i) {
    const int last = chains_[i].last;
    chains_[i].half = engine::enabled(engine::BF16) &&
        layers_[last]->layer_param().phase() == TEST &&
        OnlyConvolved(last, tops_[last][0]);
  }
}

ChainFusion::~ChainFusion() {
  // What is deferred cannot be computed any more.
  for (int i = 0; i < chains_.size(); ++i) {
    SyncedMemory* const branch =
        tops_[chains_[i].convolution][0]->data().get();
    if (chains_[i].deferred && branch->deferred()) {
      branch->Defer(&NetIsGone);
    }
  }
}

ScaleLayer<float>& ChainFusion::scale_of(const Chain& chain) const {
  return static_cast<ScaleLayer<float>&>(*layers_[chain.scale]);
}

bool ChainFusion::InPlace(int layer, const Blob<float>* blob) const {
  return layer < layers_.size() && bottoms_[layer].size() == 1 &&
      bottoms_[layer][0] == blob && tops_[layer].size() == 1 &&
      tops_[layer][0] == blob && layers_[layer]->loss(0) == 0;
}

// Whether a blob is read behind a layer, and there by convolutions or as what a
// chain adds, through splits or not.
bool ChainFusion::OnlyConvolved(int last, const Blob<float>* blob) const {
  bool read = false;
  for (int i = last + 1; i < layers_.size(); ++i) {
    for (int j = 0; j < bottoms_[i].size(); ++j) {
      if (bottoms_[i][j] != blob) { continue; }
      read = true;
      if (IsType(*layers_[i], "Split")) {
        for (int k = 0; k < tops_[i].size(); ++k) {
          if (!OnlyConvolved(i, tops_[i][k])) { return false; }
        }
      } else if (!IsType(*layers_[i], "Convolution") &&
          !(by_layer_[i] >= 0 && chains_[by_layer_[i]].eltwise == i)) {
        return false;
      }
    }
  }
  return read;
}

bool ChainFusion::Find(int convolution, Chain* chain) const {
  if (!IsType(*layers_[convolution], "Convolution") ||
      bottoms_[convolution].size() != 1) {
    return false;
  }
  chain->convolution = convolution;
  chain->norm = chain->scale = chain->eltwise = chain->relu = -1;
  chain->addend = -1;
  chain->fused = chain->deferred = false;
  const Blob<float>* blob = tops_[convolution][0];
  int next = convolution + 1;
  if (InPlace(next, blob) && IsType(*layers_[next], "BatchNorm") &&
      static_cast<BatchNormLayer<float>&>(*layers_[next]).affine()) {
    chain->norm = next++;
  }
  if (InPlace(next, blob) && IsType(*layers_[next], "Scale")) {
    if (static_cast<ScaleLayer<float>&>(*layers_[next]).Parts().by_channel) {
      chain->scale = next++;
    }
  }
  if (next < layers_.size() && IsType(*layers_[next], "Eltwise") &&
      layers_[next]->loss(0) == 0 && bottoms_[next].size() == 2) {
    const EltwiseParameter& parameter =
        layers_[next]->layer_param().eltwise_param();
    const int addend = bottoms_[next][0] == blob ? 1 : 0;
    if (parameter.operation() == EltwiseParameter_EltwiseOp_SUM &&
        parameter.coeff_size() == 0 && bottoms_[next][1 - addend] == blob &&
        bottoms_[next][addend] != blob && tops_[next][0] != blob &&
        tops_[next][0] != bottoms_[next][addend]) {
      chain->eltwise = next;
      chain->addend = addend;
      blob = tops_[next++][0];
    }
  }
  if (InPlace(next, blob) && IsType(*layers_[next], "ReLU") &&
      layers_[next]->layer_param().relu_param().negative_slope() == 0) {
    chain->relu = next++;
  }
  chain->last = next - 1;
  // Alone, a convolution gains where it may leave bf16.
  return chain->last > convolution || (engine::enabled(engine::BF16) &&
      layers_[convolution]->layer_param().phase() == TEST &&
      Caffe::mode() == Caffe::CPU);
}

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

bool ChainFusion::Begin(bool watched, bool watched_back) {
  const bool on_device = Caffe::mode() == Caffe::GPU;
  if (!BeginBackward(watched || (on_device && watched_back))) { return false; }
  if (on_device && !watched_) { PrepareDevice(); }
  return true;
}

bool ChainFusion::BeginBackward(bool watched) {
  watched_ = watched;
  return Caffe::mode() == Caffe::GPU ? engine::enabled(engine::DEVICE)
      : UsedOnCPU() && !watched;
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

#ifdef CPU_ONLY
void ChainFusion::PrepareDevice() { NO_GPU; }
int ChainFusion::ForwardOnDevice(int, int) { NO_GPU; return 0; }
int ChainFusion::BackwardOnDevice(int, int) { NO_GPU; return 0; }
#endif

}  // namespace caffe
