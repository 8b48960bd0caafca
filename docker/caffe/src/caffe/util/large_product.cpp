// CAFFE_ENGINE's part `large`: inner products of a few rows with many weights.
//
// They are bound by memory: the weights, their gradient and their history. BLAS
// packs the weights anew in each call, for two rows as for a thousand. Here
// they are read once a pass, and the gradient, which two thin matrices hold as
// well, is neither written nor read.

#include <algorithm>
#include <cstring>
#include <vector>

#include "caffe/util/cpu_clones.hpp"
#include "caffe/util/engine.hpp"
#include "caffe/util/large.hpp"
#include "caffe/util/mkl_alternate.hpp"

namespace caffe {
namespace large {

namespace {

const engine::Provider large_provider(engine::LARGE);

const size_t kManyWeights = 1 << 22;  // assumed: beyond all caches
const int kFewRows = 8;  // assumed: as many sums stay in registers
const int kRowsOfGradient = 64;  // assumed: the update is still bound by memory
const int kPiece = 1024;  // weights of a row that are worked on at a time
const int kLanes = 16;

bool enabled(const Product& product, int most_rows) {
  return engine::enabled(engine::LARGE) && !product.transpose &&
      product.rows <= most_rows && kManyWeights <=
      static_cast<size_t>(product.outputs) * product.inputs;
}

// The two factors of a gradient; written by a call.
struct ProductGradient {
  struct Factors {
    Product product;
    vector<float> top, bottom;
  };
  shared_ptr<const Factors> factors;
  SyncedMemory* memory;

  void operator()() const {
    const Product& p = factors->product;
    cblas_sgemm(CblasRowMajor, CblasTrans, CblasNoTrans, p.outputs, p.inputs,
        p.rows, 1, factors->top.data(), p.outputs, factors->bottom.data(),
        p.inputs, 0, static_cast<float*>(memory->overwritten_cpu_data()),
        p.inputs);
  }
};

// What is left in a gradient by an update: the step that was made.
struct LastStep {
  shared_ptr<SyncedMemory> history;
  SyncedMemory* memory;

  void operator()() const {
    const void* step = history->cpu_data();
    memcpy(memory->overwritten_cpu_data(), step, memory->size());
  }
};

// sums[row] = bottom[row] * weight, of one output.
CAFFE_CPU_CLONES
void multiply_output(int rows, int inputs, const float* bottom,
    const float* weight, float* sums) {
  std::fill(sums, sums + rows, 0.f);
  for (int begin = 0; begin < inputs; begin += kPiece) {
    const int count = std::min(kPiece, inputs - begin);
    for (int row = 0; row < rows; ++row) {
      const float* x = bottom + static_cast<size_t>(row) * inputs + begin;
      const float* w = weight + begin;
      float lanes[4 * kLanes] = {};
      int i = 0;
      for (; i + 4 * kLanes <= count; i += 4 * kLanes) {
        for (int lane = 0; lane < 4 * kLanes; ++lane) {
          lanes[lane] += x[i + lane] * w[i + lane];
        }
      }
      for (; i < count; ++i) { lanes[0] += x[i] * w[i]; }
      for (int width = 2 * kLanes; width > 0; width /= 2) {
        for (int lane = 0; lane < width; ++lane) {
          lanes[lane] += lanes[lane + width];
        }
      }
      sums[row] += lanes[0];
    }
  }
}

// to[i] += factor * from[i].
CAFFE_CPU_CLONES
void add_scaled(int count, float factor, const float* from, float* to) {
#pragma GCC ivdep
  for (int i = 0; i < count; ++i) { to[i] += factor * from[i]; }
}

// A step of SGD (elementwise::descend) for weights of one output.
CAFFE_CPU_CLONES
void descend_piece(int rows, int count, int inputs, const float* top,
    int outputs, const float* bottom, float rate, float momentum, float decay,
    float* history, float* weight) {
  float gradient[kPiece];
#pragma GCC ivdep
  for (int i = 0; i < count; ++i) { gradient[i] = top[0] * bottom[i]; }
  for (int row = 1; row < rows; ++row) {
    const float factor = top[static_cast<size_t>(row) * outputs];
    const float* x = bottom + static_cast<size_t>(row) * inputs;
#pragma GCC ivdep
    for (int i = 0; i < count; ++i) { gradient[i] += factor * x[i]; }
  }
#pragma GCC ivdep
  for (int i = 0; i < count; ++i) {
    const float slope = gradient[i] + decay * weight[i];
    const float step = momentum * history[i] + rate * slope;
    history[i] = step;
    weight[i] -= step;
  }
}

}  // namespace

bool Multiply(const Product& p, const Blob<float>& bottom,
    const Blob<float>& weight, const Blob<float>* bias, Blob<float>* top) {
  if (!enabled(p, kFewRows)) { return false; }
  const float* x = bottom.cpu_data();
  const float* w = weight.cpu_data();
  const float* shift = bias ? bias->cpu_data() : NULL;
  float* y = top->mutable_cpu_data();
#pragma omp parallel for schedule(static)
  for (int output = 0; output < p.outputs; ++output) {
    float sums[kFewRows];
    multiply_output(p.rows, p.inputs, x,
        w + static_cast<size_t>(output) * p.inputs, sums);
    for (int row = 0; row < p.rows; ++row) {
      y[static_cast<size_t>(row) * p.outputs + output] =
          shift ? sums[row] + shift[output] : sums[row];
    }
  }
  return true;
}

bool MultiplyBackward(const Product& p, const Blob<float>& top,
    const Blob<float>& weight, Blob<float>* bottom) {
  if (!enabled(p, kFewRows)) { return false; }
  const float* dy = top.cpu_diff();
  const float* w = weight.cpu_data();
  float* dx = bottom->mutable_cpu_diff();
  const int pieces = (p.inputs + kPiece - 1) / kPiece;
#pragma omp parallel for schedule(static)
  for (int piece = 0; piece < pieces; ++piece) {
    const int begin = piece * kPiece;
    const int count = std::min(kPiece, p.inputs - begin);
    for (int row = 0; row < p.rows; ++row) {
      float* to = dx + static_cast<size_t>(row) * p.inputs + begin;
      std::fill(to, to + count, 0.f);
    }
    for (int output = 0; output < p.outputs; ++output) {
      const float* from = w + static_cast<size_t>(output) * p.inputs + begin;
      for (int row = 0; row < p.rows; ++row) {
        add_scaled(count, dy[static_cast<size_t>(row) * p.outputs + output],
            from, dx + static_cast<size_t>(row) * p.inputs + begin);
      }
    }
  }
  return true;
}

bool DeferGradient(const Product& p, const Blob<float>& top,
    const Blob<float>& bottom, Blob<float>* weight) {
  SyncedMemory* const memory = weight->diff().get();
  if (!enabled(p, kRowsOfGradient) || !memory->zero() || memory->watched()) {
    return false;
  }
  shared_ptr<ProductGradient::Factors> factors(new ProductGradient::Factors);
  factors->product = p;
  const float* dy = top.cpu_diff();
  const float* x = bottom.cpu_data();
  factors->top.assign(dy, dy + static_cast<size_t>(p.rows) * p.outputs);
  factors->bottom.assign(x, x + static_cast<size_t>(p.rows) * p.inputs);
  const ProductGradient gradient = { factors, memory };
  memory->Defer(gradient);
  return true;
}

bool DescendProduct(float rate, float momentum, float decay,
    Blob<float>* parameter, Blob<float>* history) {
  SyncedMemory* const memory = parameter->diff().get();
  const ProductGradient* gradient =
      memory->computation().target<ProductGradient>();
  if (!gradient) { return false; }
  const shared_ptr<const ProductGradient::Factors> factors = gradient->factors;
  const Product& p = factors->product;
  float* w = parameter->mutable_cpu_data();
  float* h = history->mutable_cpu_data();
#pragma omp parallel for schedule(static)
  for (int output = 0; output < p.outputs; ++output) {
    const size_t row = static_cast<size_t>(output) * p.inputs;
    for (int begin = 0; begin < p.inputs; begin += kPiece) {
      descend_piece(p.rows, std::min(kPiece, p.inputs - begin), p.inputs,
          factors->top.data() + output, p.outputs,
          factors->bottom.data() + begin, rate, momentum, decay,
          h + row + begin, w + row + begin);
    }
  }
  const LastStep step = { history->data(), memory };
  memory->Defer(step);
  memory->free_ordered();
  return true;
}

}  // namespace large
}  // namespace caffe
