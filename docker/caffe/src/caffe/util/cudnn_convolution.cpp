#ifdef USE_CUDNN
#include "caffe/util/cudnn_convolution.hpp"

#include <algorithm>
#include <cstdlib>
#include <sstream>
#include <string>
#include <vector>

#include "caffe/common.hpp"
#include "caffe/util/cudnn.hpp"
#include "caffe/util/engine.hpp"
#include "caffe/util/measured_choice.hpp"

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

const engine::Provider measured_provider(engine::MEASURED);

Choices& choices() {
  const char* const file = std::getenv("CAFFE_MEASURED");
  static thread_local Choices choices(file ? file : "");
  return choices;
}

const Choice* known(const std::string& name) { return choices().find(name); }

const Choice* keep(const std::string& name, const Choice& choice) {
  LOG_IF(WARNING, !choices().keep(name, choice)) << "CAFFE_MEASURED="
      << std::getenv("CAFFE_MEASURED") << " cannot be written: what was "
      << "measured is kept for this process alone";
  return known(name);
}

static_assert(kSuccess == CUDNN_STATUS_SUCCESS &&
    kDeterministic == CUDNN_DETERMINISTIC, "measured_choice.hpp");

const int kNotInside = -1;  // a choice for a bias: it is added by itself
const int kRounds = 5;      // of which the fastest counts; assumed
// The only one that cuDNN has for a bias without an activation.
const cudnnConvolutionFwdAlgo_t kInside =
    CUDNN_CONVOLUTION_FWD_ALGO_IMPLICIT_PRECOMP_GEMM;

// A name, without blanks, of all that decides how fast a pass of a convolution
// is, and whether its choice is of use: cuDNN, the device, shapes, precision.
std::string nameOf(const char* pass, cudnnTensorDescriptor_t bottom,
    cudnnFilterDescriptor_t filter, cudnnConvolutionDescriptor_t conv) {
  cudnnDataType_t type;
  cudnnTensorFormat_t format;
  cudnnConvolutionMode_t mode;
  cudnnMathType_t math;
  int n, c, h, w, strides[4], outputs, inputs, kernel_h, kernel_w, pad_h, pad_w,
      stride_h, stride_w, dilation_h, dilation_w, groups, device;
  CUDNN_CHECK(cudnnGetTensor4dDescriptor(bottom, &type, &n, &c, &h, &w,
      strides, strides + 1, strides + 2, strides + 3));
  CUDNN_CHECK(cudnnGetFilter4dDescriptor(filter, &type, &format, &outputs,
      &inputs, &kernel_h, &kernel_w));
  CUDNN_CHECK(cudnnGetConvolution2dDescriptor(conv, &pad_h, &pad_w, &stride_h,
      &stride_w, &dilation_h, &dilation_w, &mode, &type));
  CUDNN_CHECK(cudnnGetConvolutionGroupCount(conv, &groups));
  CUDNN_CHECK(cudnnGetConvolutionMathType(conv, &math));
  cudaDeviceProp about;
  CUDA_CHECK(cudaGetDevice(&device));
  CUDA_CHECK(cudaGetDeviceProperties(&about, device));
  std::ostringstream name;
  name << pass << "," << about.name << "," << cudnnGetVersion() << "," << type
      << "," << math << "," << n << "x" << c << "x" << h << "x" << w << ","
      << outputs << "x" << inputs << "x" << kernel_h << "x" << kernel_w << ","
      << pad_h << "x" << pad_w << "," << stride_h << "x" << stride_w << ","
      << dilation_h << "x" << dilation_w << "," << groups;
  std::string text = name.str();
  std::replace(text.begin(), text.end(), ' ', '_');
  return text;
}

// What cuDNN has for one pass. List and Size are its functions' types; `most`
// is how many algorithms there are.
template <typename List, typename Size>
struct Pass {
  const char* name;
  int most;
  List measure, expect;
  Size workspace;
};

template <typename List, typename Size>
Pass<List, Size> passOf(const char* name, int most, List measure, List expect,
    Size workspace) {
  const Pass<List, Size> pass = {name, most, measure, expect, workspace};
  return pass;
}

// What is known or, by `measure`, tried of a pass; NULL where nothing is: not
// asked for, or not enough memory to try.
template <typename Performance, typename Measure>
const Choice* measuredChoice(const char* pass, cudnnTensorDescriptor_t bottom,
    cudnnFilterDescriptor_t filter, cudnnConvolutionDescriptor_t conv,
    size_t workspace_limit, std::vector<Performance>* tried,
    const Measure& measure) {
  if (!engine::enabled(engine::MEASURED)) { return NULL; }
  const std::string name = nameOf(pass, bottom, filter, conv);
  if (const Choice* const choice = known(name)) { return choice; }
  int count = 0;
  if (measure(&count) != CUDNN_STATUS_SUCCESS) { count = 0; }
  cudnnMathType_t math;
  CUDNN_CHECK(cudnnGetConvolutionMathType(conv, &math));
  const Performance* const best = fastest(tried->data(), count,
      workspace_limit,
      math == CUDNN_FMA_MATH ? math : kAnyMath);  // what TF32 may do, it may
  if (!best) {  // it must not look like a measurement
    LOG(WARNING) << name << ": nothing could be measured; cuDNN's own choice";
    return NULL;
  }
  const Choice choice = {static_cast<int>(best->algo), best->memory};
  return keep(name, choice);
}

// first, second and third are what the pass reads and writes, as cuDNN's
// functions take them.
template <typename Performance, typename List, typename Size, typename First,
    typename Second, typename Third, typename Algorithm>
void choose(const Pass<List, Size>& pass, cudnnTensorDescriptor_t bottom,
    cudnnFilterDescriptor_t filter, cudnnHandle_t handle, First first,
    Second second, cudnnConvolutionDescriptor_t conv, Third third,
    size_t workspace_limit, Algorithm* algo, size_t* workspace_size) {
  std::vector<Performance> listed(pass.most);
  const Choice* const measured = measuredChoice(pass.name, bottom, filter,
      conv, workspace_limit, &listed, [&](int* count) {
        return pass.measure(handle, first, second, conv, third, pass.most,
            count, listed.data());
      });
  if (measured) {
    *algo = static_cast<Algorithm>(measured->algorithm);
    *workspace_size = measured->bytes;
    return;
  }
  int count = 0;
  CUDNN_CHECK(pass.expect(handle, first, second, conv, third, pass.most,
      &count, listed.data()));
  const Performance* const best =
      fastest(listed.data(), count, workspace_limit);
  CHECK(best) << "cuDNN has no algorithm for this convolution that needs "
      << "at most " << workspace_limit << " bytes of workspace";
  *algo = best->algo;
  CUDNN_CHECK(pass.workspace(handle, first, second, conv, third, *algo,
      workspace_size));
}

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
  choose<cudnnConvolutionFwdAlgoPerf_t>(
      passOf("forward", CUDNN_CONVOLUTION_FWD_ALGO_COUNT,
          cudnnFindConvolutionForwardAlgorithm,
          cudnnGetConvolutionForwardAlgorithm_v7,
          cudnnGetConvolutionForwardWorkspaceSize),
      bottom, filter, handle, bottom, filter, conv, top, workspace_limit, algo,
      workspace_size);
}

void chooseBackwardFilter(cudnnHandle_t handle,
    cudnnTensorDescriptor_t bottom, cudnnTensorDescriptor_t top,
    cudnnConvolutionDescriptor_t conv, cudnnFilterDescriptor_t filter,
    size_t workspace_limit,
    cudnnConvolutionBwdFilterAlgo_t* algo, size_t* workspace_size) {
  choose<cudnnConvolutionBwdFilterAlgoPerf_t>(
      passOf("filter", CUDNN_CONVOLUTION_BWD_FILTER_ALGO_COUNT,
          cudnnFindConvolutionBackwardFilterAlgorithm,
          cudnnGetConvolutionBackwardFilterAlgorithm_v7,
          cudnnGetConvolutionBackwardFilterWorkspaceSize),
      bottom, filter, handle, bottom, top, conv, filter, workspace_limit, algo,
      workspace_size);
}

void chooseBackwardData(cudnnHandle_t handle,
    cudnnFilterDescriptor_t filter, cudnnTensorDescriptor_t top,
    cudnnConvolutionDescriptor_t conv, cudnnTensorDescriptor_t bottom,
    size_t workspace_limit,
    cudnnConvolutionBwdDataAlgo_t* algo, size_t* workspace_size) {
  choose<cudnnConvolutionBwdDataAlgoPerf_t>(
      passOf("data", CUDNN_CONVOLUTION_BWD_DATA_ALGO_COUNT,
          cudnnFindConvolutionBackwardDataAlgorithm,
          cudnnGetConvolutionBackwardDataAlgorithm_v7,
          cudnnGetConvolutionBackwardDataWorkspaceSize),
      bottom, filter, handle, filter, top, conv, bottom, workspace_limit, algo,
      workspace_size);
}

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
      zero, top, top_data, bias, bias_data, shared().identity(), top, top_data);
}

}  // namespace cudnn
}  // namespace caffe
#endif
