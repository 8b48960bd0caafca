#ifndef CAFFE_UTIL_GROUPED_CONVOLUTION_HPP_
#define CAFFE_UTIL_GROUPED_CONVOLUTION_HPP_

#include "caffe/blob.hpp"

namespace caffe {

/// A convolution with one input channel a group whose kernel covers the whole
/// map: output [n][g][m] = bias[g][m] + sum over k of weight[g][m][k] *
/// input[n][g][k]. Every number is read once, by several threads; the results
/// do not depend on their number. (SRN's sr_conv4 is one: 512 groups, kernel
/// and map 14 x 14.) Caffe unrolls the map by im2col, which is a copy here, and
/// calls BLAS once a group and image with a matrix of one column.
struct GroupedConvolution {
  int num, groups;
  int outputs;  // per group (m)
  int size;     // of a map and of a kernel (k)

  /// bias may be NULL.
  void Forward(const Blob<float>& bottom, const Blob<float>& weight,
      const Blob<float>* bias, Blob<float>* top) const;

  /// Sets the diff of bottom if propagate_down; adds to the diffs of weight if
  /// weight_learns, and of bias if it is not NULL.
  void Backward(const Blob<float>& top, bool propagate_down,
      bool weight_learns, Blob<float>* bottom, Blob<float>* weight,
      Blob<float>* bias) const;

  /// There are kernels for float only: nobody calls these.
  void Forward(const Blob<double>&, const Blob<double>&, const Blob<double>*,
      Blob<double>*) const { NOT_IMPLEMENTED; }
  void Backward(const Blob<double>&, bool, bool, Blob<double>*, Blob<double>*,
      Blob<double>*) const { NOT_IMPLEMENTED; }

 private:
  void Forward(const float* input, const float* weight, const float* bias,
      float* output) const;
  void Backward(const float* input, const float* weight,
      const float* output_diff, float* input_diff, float* weight_diff,
      float* bias_diff) const;
};

}  // namespace caffe

#endif  // CAFFE_UTIL_GROUPED_CONVOLUTION_HPP_
