// What is kept of cuDNN's measured choices, CAFFE_ENGINE's part `measured`.
#ifdef USE_CUDNN
#include "caffe/util/cudnn_measured.hpp"

#include <algorithm>
#include <cstdlib>
#include <sstream>
#include <string>

#include "caffe/common.hpp"
#include "caffe/util/cudnn.hpp"
#include "caffe/util/engine.hpp"

namespace caffe {
namespace cudnn {

namespace {

const engine::Provider measured_provider(engine::MEASURED);

static_assert(kSuccess == CUDNN_STATUS_SUCCESS &&
    kDeterministic == CUDNN_DETERMINISTIC, "measured_choice.hpp");

Choices& choices() {
  const char* const file = std::getenv("CAFFE_MEASURED");
  static thread_local Choices choices(file ? file : "");
  return choices;
}

}  // namespace

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

const Choice* known(const std::string& name) { return choices().find(name); }

const Choice* keep(const std::string& name, const Choice& choice) {
  LOG_IF(WARNING, !choices().keep(name, choice)) << "CAFFE_MEASURED="
      << std::getenv("CAFFE_MEASURED") << " cannot be written: what was "
      << "measured is kept for this process alone";
  return known(name);
}

}  // namespace cudnn
}  // namespace caffe
#endif
