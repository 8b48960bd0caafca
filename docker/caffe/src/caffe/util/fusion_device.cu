// Chains of layers on a GPU, CAFFE_ENGINE's part `device`: the grids of what
// chain_kernels.hpp computes, and which blobs it is computed of.

#include <algorithm>
#include <vector>

#include "caffe/layers/batch_norm_layer.hpp"
#include "caffe/layers/scale_layer.hpp"
#include "caffe/util/chain_kernels.hpp"
#include "caffe/util/device_alternate.hpp"
#include "caffe/util/engine.hpp"
#include "caffe/util/fusion.hpp"

namespace caffe {

namespace {

const engine::Provider device_provider(engine::DEVICE);

// Blocks that fill a device, and what a part of a channel has at least to do;
// assumed, not measured.
const int kBlocks = 2048, kLeastRounds = 4;

// One block a chain.
__global__ void AffineKernel(const kernels::Affine* chains) {
  kernels::affine(chains[blockIdx.x], kernels::here());
}

template <int kWidth>
__global__ void ForwardKernel(kernels::Forward of) {
  kernels::forward<kWidth>(of, kernels::here());
}

__device__ float SumOfBlock(float* numbers) {
  for (int width = kernels::kThreads / 2; width; width /= 2) {
    __syncthreads();
    kernels::halve(numbers, threadIdx.x, width);
  }
  return numbers[0];
}

template <int kWidth>
__global__ void BackwardKernel(kernels::Backward of) {
  __shared__ float scaled[kernels::kThreads], plain[kernels::kThreads];
  kernels::backward<kWidth>(of, kernels::here(), &scaled[threadIdx.x],
      &plain[threadIdx.x]);
  if (!of.sums) { return; }
  const float sum = SumOfBlock(scaled), other = SumOfBlock(plain);
  if (threadIdx.x == 0) {
    const int part = blockIdx.x / of.channels;
    const int channel = blockIdx.x % of.channels;
    of.sums[2 * part * of.channels + channel] = sum;
    of.sums[(2 * part + 1) * of.channels + channel] = other;
  }
}

__global__ void AddPartsKernel(int channels, int parts, const float* sums,
    float* gamma_diff, float* beta_diff) {
  kernels::add_parts(channels, parts, sums, 0, gamma_diff, kernels::here());
  kernels::add_parts(channels, parts, sums, 1, beta_diff, kernels::here());
}

int BlocksFor(int count) {
  return (count + kernels::kThreads - 1) / kernels::kThreads;
}

}  // namespace

const float* ChainFusion::factor_of(const Chain& chain) const {
  return chain.norm < 0 && chain.scale < 0 ? NULL
      : affine_.gpu_data() + chain.offset;
}

// What a pass needs of all chains, and what has to be known on the host, at
// once: the device waits for the host a single time.
void ChainFusion::PrepareDevice() {
  if (chains_.empty()) { return; }
  const int bytes = chains_.size() * sizeof(kernels::Affine);
  if (!statistics_) {
    int offset = 0;
    for (int i = 0; i < chains_.size(); ++i) {
      chains_[i].offset = offset;
      offset += 2 * tops_[chains_[i].convolution][0]->shape(1);
    }
    affine_.Reshape(vector<int>(1, offset));
    lost_.Reshape(vector<int>(1, chains_.size()));
    statistics_.reset(new SyncedMemory(bytes));
  }
  kernels::Affine* const of =
      static_cast<kernels::Affine*>(statistics_->mutable_cpu_data());
  std::fill(lost_.mutable_cpu_data(),
      lost_.mutable_cpu_data() + chains_.size(), 0);
  for (int i = 0; i < chains_.size(); ++i) {
    const Chain& chain = chains_[i];
    of[i] = kernels::Affine();
    if (chain.norm < 0 && chain.scale < 0) { continue; }
    of[i].channels = tops_[chain.convolution][0]->shape(1);
    if (chain.norm >= 0) {
      const Layer<float>& norm = *layers_[chain.norm];
      vector<shared_ptr<Blob<float> > >& blobs = layers_[chain.norm]->blobs();
      of[i].mean = blobs[0]->gpu_data();
      of[i].variance = blobs[1]->gpu_data();
      of[i].weight = blobs[2]->gpu_data();
      of[i].eps = norm.layer_param().batch_norm_param().eps();
    }
    if (chain.scale >= 0) {
      const elementwise::ScaleParts<float> parts = scale_of(chain).Parts();
      of[i].gamma = parts.factor->gpu_data();
      of[i].beta = parts.shift ? parts.shift->gpu_data() : NULL;
    }
    of[i].factor = affine_.mutable_gpu_data() + chain.offset;
    of[i].shift = of[i].factor + of[i].channels;
    of[i].lost = lost_.mutable_gpu_data() + i;
  }
  // NOLINT_NEXT_LINE(whitespace/operators)
  AffineKernel<<<chains_.size(), kernels::kThreads>>>(
      static_cast<const kernels::Affine*>(statistics_->gpu_data()));
  CUDA_POST_KERNEL_CHECK;
  lost_.cpu_data();
}

// Whether a chain gains by being one, and its backward pass can be one, too.
bool ChainFusion::FitsDevice(const Chain& chain, int number) const {
  if (chain.norm < 0 && chain.scale < 0 && chain.eltwise < 0) { return false; }
  bool any = false, all = true;
  for (int i = chain.convolution + 1; i <= chain.last; ++i) {
    any = any || need_backward_[i];
    all = all && need_backward_[i];
    for (int j = 0; j < bottoms_[i].size(); ++j) {
      all = all && bottom_need_backward_[i][j];
    }
  }
  if (!any) { return true; }
  return all && chain.scale >= 0 &&
      !(scale_of(chain).Parts().factor_learns && lost_.cpu_data()[number]);
}

int ChainFusion::ForwardOnDevice(int first, int last) {
  const int number = by_layer_[first];
  if (number < 0) { return 0; }
  Chain& chain = chains_[number];
  chain.fused = by_first_[first] >= 0 && chain.last <= last && !watched_ &&
      FitsDevice(chain, number);
  if (!chain.fused) { return 0; }
  layers_[first]->Forward(bottoms_[first], tops_[first]);
  for (int i = first + 1; i <= chain.last; ++i) {
    layers_[i]->Reshape(bottoms_[i], tops_[i]);
  }
  Blob<float>* const branch = tops_[first][0];
  kernels::Forward of = kernels::Forward();
  of.images = branch->shape(0);
  of.channels = branch->shape(1);
  of.inner = branch->count(2);
  of.in = branch->gpu_data();
  of.factor = factor_of(chain);
  of.shift = of.factor ? of.factor + of.channels : NULL;
  of.relu = chain.relu >= 0;
  if (chain.eltwise >= 0) {
    of.addend = bottoms_[chain.eltwise][chain.addend]->gpu_data();
    of.branch = of.factor ? branch->mutable_gpu_data() : NULL;
    of.out = tops_[chain.eltwise][0]->mutable_gpu_data();
  } else {
    of.out = branch->mutable_gpu_data();
  }
  const int width = of.inner % 4 ? 1 : 4;
  const int blocks =
      std::min(std::max(BlocksFor(branch->count() / width), 1), 4 * kBlocks);
  if (width == 4) {
    // NOLINT_NEXT_LINE(whitespace/operators)
    ForwardKernel<4><<<blocks, kernels::kThreads>>>(of);
  } else {
    // NOLINT_NEXT_LINE(whitespace/operators)
    ForwardKernel<1><<<blocks, kernels::kThreads>>>(of);
  }
  CUDA_POST_KERNEL_CHECK;
  return chain.last - first + 1;
}

int ChainFusion::BackwardOnDevice(int last, int first) {
  const int number = by_layer_[last];
  if (number < 0 || !need_backward_[last]) { return 0; }
  const Chain& chain = chains_[number];
  if (!chain.fused || chain.convolution == last) { return 0; }
  CHECK(chain.last == last && chain.convolution + 1 >= first && !watched_)
      << layers_[chain.convolution]->layer_param().name() << " and the layers "
      << "behind it were computed as one, so they cannot be looked at singly "
      << "on the way back: set CAFFE_ENGINE to a list without 'device'.";
  const elementwise::ScaleParts<float> parts = scale_of(chain).Parts();
  Blob<float>* const branch = tops_[chain.convolution][0];
  Blob<float>* const top =
      chain.eltwise < 0 ? branch : tops_[chain.eltwise][0];
  kernels::Backward of = kernels::Backward();
  of.images = branch->shape(0);
  of.channels = branch->shape(1);
  of.inner = branch->count(2);
  const int width = of.inner % 4 ? 1 : 4;
  const int rounds = BlocksFor(of.images * (of.inner / width));
  of.parts = std::max(1,
      std::min(kBlocks / of.channels, rounds / kLeastRounds));
  of.gradient = top->gpu_diff();
  of.gate = chain.relu < 0 ? NULL : top->gpu_data();
  of.branch = branch->gpu_data();
  of.gamma = parts.factor->gpu_data();
  of.beta = parts.shift ? parts.shift->gpu_data() : NULL;
  of.factor = factor_of(chain);
  of.in_diff = branch->mutable_gpu_diff();
  if (chain.eltwise >= 0) {
    of.addend_diff =
        bottoms_[chain.eltwise][chain.addend]->mutable_gpu_diff();
  }
  if (parts.factor_learns || parts.shift_learns) {
    const int count = 2 * of.parts * of.channels;
    if (sums_.count() < count) { sums_.Reshape(vector<int>(1, count)); }
    of.sums = sums_.mutable_gpu_data();
  }
  if (width == 4) {
    // NOLINT_NEXT_LINE(whitespace/operators)
    BackwardKernel<4><<<of.channels * of.parts, kernels::kThreads>>>(of);
  } else {
    // NOLINT_NEXT_LINE(whitespace/operators)
    BackwardKernel<1><<<of.channels * of.parts, kernels::kThreads>>>(of);
  }
  CUDA_POST_KERNEL_CHECK;
  if (of.sums) {
    // NOLINT_NEXT_LINE(whitespace/operators)
    AddPartsKernel<<<BlocksFor(of.channels), kernels::kThreads>>>(of.channels,
        of.parts, of.sums,
        parts.factor_learns ? parts.factor->mutable_gpu_diff() : NULL,
        parts.shift_learns ? parts.shift->mutable_gpu_diff() : NULL);
    CUDA_POST_KERNEL_CHECK;
  }
  return chain.last - chain.convolution;
}

}  // namespace caffe
