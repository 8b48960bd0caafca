// The maths of caffe/util/semantic_attention.hpp with one block of threads for
// each map (a channel of an image). A warp sums up what belongs to a row, a
// thread what belongs to a position; so nothing is added atomically, and the
// same numbers give the same results.

#include <vector>

#include "caffe/layers/semantic_attention_layer.hpp"
#include "caffe/util/math_functions.hpp"

namespace caffe {

namespace {

const int kWarp = 32;
const int kMapThreads = 128;  // of a block; assumed, not measured
const int kTile = 128;        // rows whose numbers a block keeps at a time

template <typename Dtype>
__device__ Dtype SumOfWarp(Dtype x) {
  for (int other = kWarp / 2; other; other /= 2) {
    x += __shfl_xor_sync(0xffffffff, x, other);
  }
  return x;
}

// The maximum and the minimum of a map, known to all threads of the block.
template <typename Dtype>
__device__ void Extremes(const Dtype* f, int positions, Dtype* maximum,
    Dtype* minimum) {
  __shared__ Dtype of_warp[2][kMapThreads / kWarp];
  Dtype high = f[0], low = f[0];
  for (int p = threadIdx.x; p < positions; p += blockDim.x) {
    high = max(high, f[p]);
    low = min(low, f[p]);
  }
  for (int other = kWarp / 2; other; other /= 2) {
    high = max(high, __shfl_xor_sync(0xffffffff, high, other));
    low = min(low, __shfl_xor_sync(0xffffffff, low, other));
  }
  if (threadIdx.x % kWarp == 0) {
    of_warp[0][threadIdx.x / kWarp] = high;
    of_warp[1][threadIdx.x / kWarp] = low;
  }
  __syncthreads();
  for (int warp = 0; warp < kMapThreads / kWarp; ++warp) {
    high = max(high, of_warp[0][warp]);
    low = min(low, of_warp[1][warp]);
  }
  *maximum = high;
  *minimum = low;
}

template <typename Dtype>
__global__ void SemanticAttentionForward(int channels, int positions, int rows,
    const Dtype* features, const Dtype* embeddings, Dtype* out, Dtype* inverse,
    Dtype* away) {
  const size_t map = blockIdx.x;
  const int channel = map % channels;
  const Dtype* f = features + map * positions;
  Dtype maximum, minimum;
  Extremes(f, positions, &maximum, &minimum);
  // All threads of a warp have the same row.
  for (int row = threadIdx.x / kWarp; row < rows; row += blockDim.x / kWarp) {
    const Dtype e = embeddings[size_t(row) * channels + channel];
    const Dtype extreme = e > 0 ? maximum : minimum;
    Dtype sum = 0, product = 0;
    for (int p = threadIdx.x % kWarp; p < positions; p += kWarp) {
      const Dtype x = f[p] - extreme;
      const Dtype weight = exp(e * x);
      sum += weight;
      product += weight * x;
    }
    sum = SumOfWarp(sum);
    product = SumOfWarp(product);
    if (threadIdx.x % kWarp == 0) {
      inverse[map * rows + row] = 1 / sum;
      away[map * rows + row] = product / sum;
      out[(map / channels * rows + row) * channels + channel] =
          product / sum + extreme;
    }
  }
}

// features_diff may be NULL. by_image is [map][row], the gradient of e.
template <typename Dtype>
__global__ void SemanticAttentionBackward(int channels, int positions, int rows,
    const Dtype* features, const Dtype* embeddings, const Dtype* inverse,
    const Dtype* away, const Dtype* out_diff, Dtype* features_diff,
    Dtype* by_image) {
  __shared__ Dtype e_of[kTile], extreme_of[kTile], away_of[kTile],
      factor_of[kTile];
  const size_t map = blockIdx.x;
  const int channel = map % channels;
  const Dtype* f = features + map * positions;
  Dtype maximum, minimum;
  Extremes(f, positions, &maximum, &minimum);
  for (int first = 0; first < rows; first += kTile) {
    const int count = min(kTile, rows - first);
    __syncthreads();  // the last tile is read
    for (int i = threadIdx.x; i < count; i += blockDim.x) {
      const int row = first + i;
      e_of[i] = embeddings[size_t(row) * channels + channel];
      extreme_of[i] = e_of[i] > 0 ? maximum : minimum;
      away_of[i] = away[map * rows + row];
      factor_of[i] = inverse[map * rows + row] *
          out_diff[(map / channels * rows + row) * channels + channel];
    }
    __syncthreads();
    if (features_diff) {
      for (int p = threadIdx.x; p < positions; p += blockDim.x) {
        Dtype sum = first ? features_diff[map * positions + p] : Dtype(0);
        for (int i = 0; i < count; ++i) {
          const Dtype x = f[p] - extreme_of[i];
          sum += factor_of[i] * exp(e_of[i] * x) *
              (1 + e_of[i] * (x - away_of[i]));
        }
        features_diff[map * positions + p] = sum;
      }
    }
    for (int i = threadIdx.x / kWarp; i < count; i += blockDim.x / kWarp) {
      Dtype square = 0;
      for (int p = threadIdx.x % kWarp; p < positions; p += kWarp) {
        const Dtype x = f[p] - extreme_of[i];
        const Dtype off = x - away_of[i];
        square += exp(e_of[i] * x) * off * off;
      }
      square = SumOfWarp(square);
      if (threadIdx.x % kWarp == 0) {
        by_image[map * rows + first + i] = factor_of[i] * square;
      }
    }
  }
}

// The sum of by_image [image][channel][row] over the images, [row][channel].
template <typename Dtype>
__global__ void SemanticAttentionSum(int n, int images, int channels, int rows,
    const Dtype* by_image, Dtype* embeddings_diff) {
  CUDA_KERNEL_LOOP(index, n) {
    const int row = index / channels, channel = index % channels;
    Dtype sum = 0;
    for (int image = 0; image < images; ++image) {
      sum += by_image[(size_t(image) * channels + channel) * rows + row];
    }
    embeddings_diff[index] = sum;
  }
}

}  // namespace

template <typename Dtype>
void SemanticAttentionLayer<Dtype>::Forward_gpu(
    const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top) {
  const int channels = bottom[0]->shape(1);
  // NOLINT_NEXT_LINE(whitespace/operators)
  SemanticAttentionForward<Dtype><<<bottom[0]->count(0, 2), kMapThreads>>>(
      channels, bottom[0]->count(2), bottom[1]->shape(0),
      bottom[0]->gpu_data(), bottom[1]->gpu_data(), top[0]->mutable_gpu_data(),
      inverse_.mutable_gpu_data(), away_.mutable_gpu_data());
  CUDA_POST_KERNEL_CHECK;
}

template <typename Dtype>
void SemanticAttentionLayer<Dtype>::Backward_gpu(
    const vector<Blob<Dtype>*>& top, const vector<bool>& propagate_down,
    const vector<Blob<Dtype>*>& bottom) {
  if (!propagate_down[0] && !propagate_down[1]) { return; }
  const int images = bottom[0]->shape(0), channels = bottom[0]->shape(1);
  const int rows = bottom[1]->shape(0);
  // NOLINT_NEXT_LINE(whitespace/operators)
  SemanticAttentionBackward<Dtype><<<images * channels, kMapThreads>>>(
      channels, bottom[0]->count(2), rows, bottom[0]->gpu_data(),
      bottom[1]->gpu_data(), inverse_.gpu_data(), away_.gpu_data(),
      top[0]->gpu_diff(),
      propagate_down[0] ? bottom[0]->mutable_gpu_diff() : NULL,
      by_image_.mutable_gpu_data());
  CUDA_POST_KERNEL_CHECK;
  if (!propagate_down[1]) { return; }
  const int count = bottom[1]->count();
  // NOLINT_NEXT_LINE(whitespace/operators)
  SemanticAttentionSum<Dtype><<<CAFFE_GET_BLOCKS(count),
      CAFFE_CUDA_NUM_THREADS>>>(count, images, channels, rows,
      by_image_.gpu_data(), bottom[1]->mutable_gpu_diff());
  CUDA_POST_KERNEL_CHECK;
}

INSTANTIATE_LAYER_GPU_FUNCS(SemanticAttentionLayer);

}  // namespace caffe
