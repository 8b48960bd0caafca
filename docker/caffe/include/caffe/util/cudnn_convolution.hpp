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

// What follows a convolution with a bias that cuDNN adds: nothing.
cudnnActivationDescriptor_t identity();

// What convolutions may compute with, see Caffe::tf32(): cuDNN's default would
// be TF32.
cudnnMathType_t mathType();

// For each of the three passes of a convolution: the algorithm to use and the
// workspace that it needs, in bytes. What cuDNN expects to be the fastest; with
// CAFFE_ENGINE's part `measured` what is, kept for all convolutions that are
// alike, and in the file CAFFE_MEASURED where it is named.
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

// Whether cuDNN is to add the bias as it convolves: where part `measured` is in
// use, and that is faster than adding it in a pass of its own. Then the
// algorithm is changed to the one that can. `one` and `zero` are of the blobs'
// type.
bool chooseBiasInside(cudnnHandle_t handle,
    cudnnTensorDescriptor_t bottom, cudnnFilterDescriptor_t filter,
    cudnnConvolutionDescriptor_t conv, cudnnTensorDescriptor_t bias,
    cudnnTensorDescriptor_t top, size_t workspace_limit, const void* one,
    const void* zero,
    cudnnConvolutionFwdAlgo_t* algo, size_t* workspace_size);

// That convolution: of an algorithm which chooseBiasInside has chosen.
cudnnStatus_t forwardWithBias(cudnnHandle_t handle,
    const void* one, const void* zero,
    cudnnTensorDescriptor_t bottom, const void* bottom_data,
    cudnnFilterDescriptor_t filter, const void* weight,
    cudnnConvolutionDescriptor_t conv,
    cudnnConvolutionFwdAlgo_t algo, size_t workspace_size,
    cudnnTensorDescriptor_t bias, const void* bias_data,
    cudnnTensorDescriptor_t top, void* top_data);

}  // namespace cudnn
}  // namespace caffe

#endif  // USE_CUDNN
#endif  // CAFFE_UTIL_CUDNN_CONVOLUTION_HPP_
