#ifndef CAFFE_UTIL_CUDNN_CONVOLUTION_HPP_
#define CAFFE_UTIL_CUDNN_CONVOLUTION_HPP_
#ifdef USE_CUDNN

// What the convolutions that cuDNN computes share: one handle and one workspace
// a thread, the way of choosing an algorithm, and the precision.

#include <cudnn.h>

#include <cstddef>

namespace caffe {
namespace cudnn {

// The most that one convolution may use as workspace. Much of what is fast
// needs tens of MB; the value is assumed.
const size_t kWorkspaceLimit = 256 << 20;

// cuDNN's handle of this thread for the current device. All that goes through
// it runs in the default stream, one after the other.
cudnnHandle_t handle();

// Device memory of at least `size` bytes, shared by all that goes through
// handle(): the contents last until the next call.
void* workspace(size_t size);

// What convolutions may compute with, see Caffe::tf32(): cuDNN's default would
// be TF32.
cudnnMathType_t mathType();

// For each of the three passes of a convolution: the algorithm to use and the
// workspace that it needs, in bytes.
void chooseForward(cudnnHandle_t handle,
    cudnnTensorDescriptor_t bottom, cudnnFilterDescriptor_t filter,
    cudnnConvolutionDescriptor_t conv, cudnnTensorDescriptor_t top,
    size_t workspace_limit,
    cudnnConvolutionFwdAlgo_t* algo, size_t* workspace_size);
void chooseBackwardFilter(cudnnHandle_t handle,
    cudnnTensorDescriptor_t bottom, cudnnTensorDescriptor_t top,
    cudnnConvolutionDescriptor_t conv, cudnnFilterDescriptor_t filter,
    size_t workspace_limit,
    cudnnConvolutionBwdFilterAlgo_t* algo, size_t* workspace_size);
void chooseBackwardData(cudnnHandle_t handle,
    cudnnFilterDescriptor_t filter, cudnnTensorDescriptor_t top,
    cudnnConvolutionDescriptor_t conv, cudnnTensorDescriptor_t bottom,
    size_t workspace_limit,
    cudnnConvolutionBwdDataAlgo_t* algo, size_t* workspace_size);

}  // namespace cudnn
}  // namespace caffe

#endif  // USE_CUDNN
#endif  // CAFFE_UTIL_CUDNN_CONVOLUTION_HPP_
