// Where cuDNN adds a convolution's bias: as it convolves, or in a pass of its
// own.
#ifdef USE_CUDNN
#include <string>

#include "caffe/common.hpp"
#include "caffe/util/cudnn.hpp"
#include "caffe/util/cudnn_convolution.hpp"
#include "caffe/util/cudnn_measured.hpp"
#include "caffe/util/engine.hpp"

namespace caffe {
namespace cudnn {

namespace {

const int kNotInside = -1;  // a choice for a bias: it is added by itself
const int kRounds = 5;      // of which the fastest counts; assumed
// The only one that cuDNN has for a bias without an activation.
const cudnnConvolutionFwdAlgo_t kInside =
    CUDNN_CONVOLUTION_FWD_ALGO_IMPLICIT_PRECOMP_GEMM;

// Memory of a device that is used for trying; NULL where there is not as much.
class Trial {
 public:
  explicit Trial(size_t size) : data_(NULL) {
    if (cudaMalloc(&data_, size) != cudaSuccess ||
        cudaMemset(data_, 0, size) != cudaSuccess) {
      cudaGetLastError();  // it is told here, not by the next kernel
      cudaFree(data_);
      data_ = NULL;
    }
  }
  ~Trial() { cudaFree(data_); }
  void* data() const { return data_; }

 private:
  void* data_;
  DISABLE_COPY_AND_ASSIGN(Trial);
};

// Milliseconds that a device takes for `work`, the least of some rounds; less
// than 0 where cuDNN does not do it.
template <typename Work>
float timeOf(const Work& work) {
  cudaEvent_t before, after;
  CUDA_CHECK(cudaEventCreate(&before));
  CUDA_CHECK(cudaEventCreate(&after));
  float least = -1;
  for (int round = 0; round <= kRounds; ++round) {  // one to warm up
    CUDA_CHECK(cudaEventRecord(before));
    if (work() != CUDNN_STATUS_SUCCESS) { break; }
    CUDA_CHECK(cudaEventRecord(after));
    CUDA_CHECK(cudaEventSynchronize(after));
    float now = 0;
    CUDA_CHECK(cudaEventElapsedTime(&now, before, after));
    if (round > 0 && (least < 0 || now < least)) { least = now; }
  }
  CUDA_CHECK(cudaEventDestroy(before));
  CUDA_CHECK(cudaEventDestroy(after));
  return least;
}

}  // namespace

bool chooseBiasInside(cudnnHandle_t handle,
    cudnnTensorDescriptor_t bottom, cudnnFilterDescriptor_t filter,
    cudnnConvolutionDescriptor_t conv, cudnnTensorDescriptor_t bias,
    cudnnTensorDescriptor_t top, size_t workspace_limit, const void* one,
    const void* zero,
    cudnnConvolutionFwdAlgo_t* algo, size_t* workspace_size) {
  if (!engine::enabled(engine::MEASURED)) { return false; }
  const std::string name = nameOf("bias", bottom, filter, conv);
  const Choice* chosen = known(name);
  if (!chosen) {
    size_t size_of[4] = {0, 0, 0, 0}, inside_size = 0;
    CUDNN_CHECK(cudnnGetTensorSizeInBytes(bottom, &size_of[0]));
    CUDNN_CHECK(cudnnGetFilterSizeInBytes(filter, &size_of[1]));
    CUDNN_CHECK(cudnnGetTensorSizeInBytes(bias, &size_of[2]));
    CUDNN_CHECK(cudnnGetTensorSizeInBytes(top, &size_of[3]));
    const Trial from(size_of[0]), weight(size_of[1]), added(size_of[2]),
        to(size_of[3]);
    if (!from.data() || !weight.data() || !added.data() || !to.data()) {
      return false;
    }
    Choice choice = {kNotInside, 0};
    if (cudnnGetConvolutionForwardWorkspaceSize(handle, bottom, filter, conv,
            top, kInside, &inside_size) == CUDNN_STATUS_SUCCESS &&
        inside_size <= workspace_limit) {
      const cudnnConvolutionFwdAlgo_t apart_algo = *algo;
      const size_t apart_size = *workspace_size;
      const float apart = timeOf([&]() {
        const cudnnStatus_t status = cudnnConvolutionForward(handle, one,
            bottom, from.data(), filter, weight.data(), conv, apart_algo,
            workspace(apart_size), apart_size, zero, top, to.data());
        return status != CUDNN_STATUS_SUCCESS ? status : cudnnAddTensor(handle,
            one, bias, added.data(), one, top, to.data());
      });
      const float together = timeOf([&]() {
        return forwardWithBias(handle, one, zero, bottom, from.data(), filter,
            weight.data(), conv, kInside, inside_size, bias, added.data(), top,
            to.data());
      });
      if (together >= 0 && together < apart) {
        choice.algorithm = kInside;
        choice.bytes = inside_size;
      }
    }
    chosen = keep(name, choice);
  }
  if (chosen->algorithm == kNotInside) { return false; }
  *algo = static_cast<cudnnConvolutionFwdAlgo_t>(chosen->algorithm);
  *workspace_size = chosen->bytes;
  return true;
}

cudnnStatus_t forwardWithBias(cudnnHandle_t handle,
    const void* one, const void* zero,
    cudnnTensorDescriptor_t bottom, const void* bottom_data,
    cudnnFilterDescriptor_t filter, const void* weight,
    cudnnConvolutionDescriptor_t conv,
    cudnnConvolutionFwdAlgo_t algo, size_t workspace_size,
    cudnnTensorDescriptor_t bias, const void* bias_data,
    cudnnTensorDescriptor_t top, void* top_data) {
  // The third tensor of the sum counts `zero` times.
  return cudnnConvolutionBiasActivationForward(handle, one, bottom, bottom_data,
      filter, weight, conv, algo, workspace(workspace_size), workspace_size,
      zero, top, top_data, bias, bias_data, identity(), top, top_data);
}

}  // namespace cudnn
}  // namespace caffe
#endif
