// The algorithms of a convolution's three passes.
#ifdef USE_CUDNN
#include <string>
#include <vector>

#include "caffe/common.hpp"
#include "caffe/util/cudnn.hpp"
#include "caffe/util/cudnn_convolution.hpp"
#include "caffe/util/cudnn_measured.hpp"
#include "caffe/util/engine.hpp"

namespace caffe {
namespace cudnn {

namespace {

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

}  // namespace

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

}  // namespace cudnn
}  // namespace caffe
#endif
