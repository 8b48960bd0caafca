#ifdef USE_CUDNN
#include "caffe/util/cudnn_convolution.hpp"

#include <vector>

#include "caffe/common.hpp"
#include "caffe/util/cudnn.hpp"

namespace caffe {
namespace cudnn {

namespace {

// What the convolutions of a thread share. At the thread's end the driver may
// be gone already, hence no checks there.
class Shared {
 public:
  ~Shared() { Release(); }

  cudnnHandle_t handle() {
    int device;
    CUDA_CHECK(cudaGetDevice(&device));
    if (!handle_ || device != device_) {
      Release();
      CUDNN_CHECK(cudnnCreate(&handle_));
      device_ = device;
    }
    return handle_;
  }

  void* workspace(size_t size) {
    if (size > size_) {
      cudaFree(workspace_);
      workspace_ = NULL;
      size_ = 0;
      CUDA_CHECK(cudaMalloc(&workspace_, size));
      size_ = size;
    }
    return workspace_;
  }

 private:
  void Release() {
    cudaFree(workspace_);
    if (handle_) { cudnnDestroy(handle_); }
    workspace_ = NULL;
    handle_ = NULL;
    size_ = 0;
  }

  int device_ = 0;
  cudnnHandle_t handle_ = NULL;
  void* workspace_ = NULL;
  size_t size_ = 0;
};

Shared& shared() {
  static thread_local Shared shared;
  return shared;
}

// Chooses among the algorithms that cuDNN lists for a convolution, the one that
// it expects to be the fastest first. One that does not give the same bits
// each time is only taken where there is no other.
template <typename Performance>
const Performance& firstWithin(size_t workspace_limit,
    const std::vector<Performance>& listed, int count) {
  const Performance* unsteady = NULL;
  for (int i = 0; i < count; ++i) {
    if (listed[i].status != CUDNN_STATUS_SUCCESS ||
        listed[i].memory > workspace_limit) {
      continue;
    }
    if (listed[i].determinism == CUDNN_DETERMINISTIC) { return listed[i]; }
    if (!unsteady) { unsteady = &listed[i]; }
  }
  CHECK(unsteady) << "cuDNN has no algorithm for this convolution that needs "
      << "at most " << workspace_limit << " bytes of workspace";
  return *unsteady;
}

}  // namespace

cudnnHandle_t handle() { return shared().handle(); }

cudnnMathType_t mathType() {
  return Caffe::tf32() ? CUDNN_DEFAULT_MATH : CUDNN_FMA_MATH;
}

void* workspace(size_t size) { return shared().workspace(size); }

void chooseForward(cudnnHandle_t handle,
    cudnnTensorDescriptor_t bottom, cudnnFilterDescriptor_t filter,
    cudnnConvolutionDescriptor_t conv, cudnnTensorDescriptor_t top,
    size_t workspace_limit,
    cudnnConvolutionFwdAlgo_t* algo, size_t* workspace_size) {
  std::vector<cudnnConvolutionFwdAlgoPerf_t> listed(
      CUDNN_CONVOLUTION_FWD_ALGO_COUNT);
  int count = 0;
  CUDNN_CHECK(cudnnGetConvolutionForwardAlgorithm_v7(handle, bottom, filter,
      conv, top, listed.size(), &count, listed.data()));
  *algo = firstWithin(workspace_limit, listed, count).algo;
  CUDNN_CHECK(cudnnGetConvolutionForwardWorkspaceSize(handle, bottom, filter,
      conv, top, *algo, workspace_size));
}

void chooseBackwardFilter(cudnnHandle_t handle,
    cudnnTensorDescriptor_t bottom, cudnnTensorDescriptor_t top,
    cudnnConvolutionDescriptor_t conv, cudnnFilterDescriptor_t filter,
    size_t workspace_limit,
    cudnnConvolutionBwdFilterAlgo_t* algo, size_t* workspace_size) {
  std::vector<cudnnConvolutionBwdFilterAlgoPerf_t> listed(
      CUDNN_CONVOLUTION_BWD_FILTER_ALGO_COUNT);
  int count = 0;
  CUDNN_CHECK(cudnnGetConvolutionBackwardFilterAlgorithm_v7(handle, bottom, top,
      conv, filter, listed.size(), &count, listed.data()));
  *algo = firstWithin(workspace_limit, listed, count).algo;
  CUDNN_CHECK(cudnnGetConvolutionBackwardFilterWorkspaceSize(handle, bottom,
      top, conv, filter, *algo, workspace_size));
}

void chooseBackwardData(cudnnHandle_t handle,
    cudnnFilterDescriptor_t filter, cudnnTensorDescriptor_t top,
    cudnnConvolutionDescriptor_t conv, cudnnTensorDescriptor_t bottom,
    size_t workspace_limit,
    cudnnConvolutionBwdDataAlgo_t* algo, size_t* workspace_size) {
  std::vector<cudnnConvolutionBwdDataAlgoPerf_t> listed(
      CUDNN_CONVOLUTION_BWD_DATA_ALGO_COUNT);
  int count = 0;
  CUDNN_CHECK(cudnnGetConvolutionBackwardDataAlgorithm_v7(handle, filter, top,
      conv, bottom, listed.size(), &count, listed.data()));
  *algo = firstWithin(workspace_limit, listed, count).algo;
  CUDNN_CHECK(cudnnGetConvolutionBackwardDataWorkspaceSize(handle, filter, top,
      conv, bottom, *algo, workspace_size));
}

}  // namespace cudnn
}  // namespace caffe
#endif
