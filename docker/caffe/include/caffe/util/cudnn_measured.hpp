#ifndef CAFFE_UTIL_CUDNN_MEASURED_HPP_
#define CAFFE_UTIL_CUDNN_MEASURED_HPP_
#ifdef USE_CUDNN

#include <cudnn.h>

#include <string>

#include "caffe/util/measured_choice.hpp"

namespace caffe {
namespace cudnn {

/// A name, without blanks, of all that decides how fast a pass of a convolution
/// is, and whether its choice is of use: cuDNN, the device, shapes, precision.
std::string nameOf(const char* pass, cudnnTensorDescriptor_t bottom,
    cudnnFilterDescriptor_t filter, cudnnConvolutionDescriptor_t conv);

/// What was measured of this name; NULL where nothing was.
const Choice* known(const std::string& name);
/// Keeps what was measured, in the file CAFFE_MEASURED where it is named, and
/// returns it.
const Choice* keep(const std::string& name, const Choice& choice);

}  // namespace cudnn
}  // namespace caffe

#endif  // USE_CUDNN
#endif  // CAFFE_UTIL_CUDNN_MEASURED_HPP_
