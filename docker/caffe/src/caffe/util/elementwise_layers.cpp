// Layers that compute number by number: ReLU, Eltwise, Split.

#include <algorithm>

#include "caffe/util/elementwise_layers.hpp"

namespace caffe {
namespace elementwise {

bool ReLUForward(const Blob<float>& bottom, float slope, Blob<float>* top) {
  if (!enabled<float>()) { return false; }
  const int block = bottom.data_block();
  const float* x = bottom.cpu_data_in(block);
  relu(bottom.count(), x, slope, top->overwritten_cpu_data_in(block));
  return true;
}

bool ReLUBackward(const Blob<float>& top, float slope, Blob<float>* bottom) {
  if (!enabled<float>()) { return false; }
  const int block = bottom->data_block();
  const float* x = bottom->cpu_data_in(block);
  const float* dy = top.cpu_diff_in(block);
  relu_backward(bottom->count(), x, dy, slope,
      bottom->overwritten_cpu_diff_in(block));
  return true;
}

bool EltwiseForward(EltwiseParameter_EltwiseOp operation,
    const vector<float>& coefficients, const vector<Blob<float>*>& bottom,
    Blob<float>* top) {
  if (operation == EltwiseParameter_EltwiseOp_MAX || !enabled<float>()) {
    return false;
  }
  int block = 1;
  for (int i = 0; i < bottom.size(); ++i) {
    block = std::max(block, bottom[i]->data_block());
  }
  vector<const float*> x;
  for (int i = 0; i < bottom.size(); ++i) {
    x.push_back(bottom[i]->cpu_data_in(block));
  }
  float* y = top->overwritten_cpu_data_in(block);
  for (int i = 1; i < bottom.size(); ++i) {
    const float* first = i == 1 ? x[0] : y;
    if (operation == EltwiseParameter_EltwiseOp_PROD) {
      multiply(top->count(), first, x[i], y);
    } else {
      sum(top->count(), i == 1 ? coefficients[0] : 1, first, coefficients[i],
          x[i], false, y);
    }
  }
  return true;
}

bool EltwiseBackward(EltwiseParameter_EltwiseOp operation, bool stable,
    const vector<float>& coefficients, const Blob<float>& top,
    const vector<bool>& propagate_down, const vector<Blob<float>*>& bottom) {
  const bool product_of_two = operation == EltwiseParameter_EltwiseOp_PROD &&
      stable && bottom.size() == 2;
  if (!(operation == EltwiseParameter_EltwiseOp_SUM || product_of_two) ||
      !enabled<float>()) {
    return false;
  }
  const int block = top.diff_block();
  for (int i = 0; i < bottom.size(); ++i) {
    if (!propagate_down[i]) { continue; }
    const float* dy = top.cpu_diff_in(block);
    float* dx = bottom[i]->overwritten_cpu_diff_in(block);
    if (product_of_two) {
      multiply(top.count(), dy, bottom[1 - i]->cpu_data_in(block), dx);
    } else {
      scale(top.count(), coefficients[i], dy, dx);
    }
  }
  return true;
}

bool SplitBackward(const vector<Blob<float>*>& top, Blob<float>* bottom) {
  if (top.size() == 1 || !enabled<float>()) { return false; }
  int block = 1;
  for (int i = 0; i < top.size(); ++i) {
    block = std::max(block, top[i]->diff_block());
  }
  float* dx = bottom->overwritten_cpu_diff_in(block);
  for (int i = 1; i < top.size(); ++i) {
    const float* first = i == 1 ? top[0]->cpu_diff_in(block) : dx;
    sum(bottom->count(), 1, first, 1, top[i]->cpu_diff_in(block), false, dx);
  }
  return true;
}

}  // namespace elementwise
}  // namespace caffe
