#ifdef USE_CUDNN
#include "caffe/util/cudnn_convolution.hpp"

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

  // What follows a convolution with a bias: nothing.
  cudnnActivationDescriptor_t identity() {
    if (!identity_) {
      CUDNN_CHECK(cudnnCreateActivationDescriptor(&identity_));
      CUDNN_CHECK(cudnnSetActivationDescriptor(identity_,
          CUDNN_ACTIVATION_IDENTITY, CUDNN_NOT_PROPAGATE_NAN, 0));
    }
    return identity_;
  }

 private:
  void Release() {
    cudaFree(workspace_);
    if (identity_) { cudnnDestroyActivationDescriptor(identity_); }
    identity_ = NULL;
    if (handle_) { cudnnDestroy(handle_); }
    workspace_ = NULL;
    handle_ = NULL;
    size_ = 0;
  }

  int device_ = 0;
  cudnnHandle_t handle_ = NULL;
  cudnnActivationDescriptor_t identity_ = NULL;
  void* workspace_ = NULL;
  size_t size_ = 0;
};

Shared& shared() {
  static thread_local Shared shared;
  return shared;
}

}  // namespace

cudnnHandle_t handle() { return shared().handle(); }

cudnnMathType_t mathType() {
  return Caffe::tf32() ? CUDNN_DEFAULT_MATH : CUDNN_FMA_MATH;
}

void* workspace(size_t size) { return shared().workspace(size); }

cudnnActivationDescriptor_t identity() { return shared().identity(); }

}  // namespace cudnn
}  // namespace caffe
#endif
