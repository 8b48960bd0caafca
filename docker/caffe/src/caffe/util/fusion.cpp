// Which layers of a net are chains.

#include "caffe/util/fusion.hpp"

#include <stdexcept>
#include <string>

#include "caffe/layers/batch_norm_layer.hpp"
#include "caffe/layers/pooling_layer.hpp"
#include "caffe/layers/scale_layer.hpp"
#include "caffe/util/engine.hpp"

namespace caffe {

namespace {

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
// chain adds, through splits and poolings that only choose numbers or not.
bool ChainFusion::OnlyConvolved(int last, const Blob<float>* blob) const {
  bool read = false;
  for (int i = last + 1; i < layers_.size(); ++i) {
    for (int j = 0; j < bottoms_[i].size(); ++j) {
      if (bottoms_[i][j] != blob) { continue; }
      read = true;
      if (IsType(*layers_[i], "Split") || PoolsHalves(i)) {
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

bool ChainFusion::PoolsHalves(int layer) const {
  return IsType(*layers_[layer], "Pooling") && tops_[layer].size() == 1 &&
      static_cast<PoolingLayer<float>&>(*layers_[layer]).Chooses();
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

#ifdef CPU_ONLY
void ChainFusion::PrepareDevice() { NO_GPU; }
int ChainFusion::ForwardOnDevice(int, int) { NO_GPU; return 0; }
int ChainFusion::BackwardOnDevice(int, int) { NO_GPU; return 0; }
#endif

}  // namespace caffe
