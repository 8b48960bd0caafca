// CAFFE_ENGINE's part `recurrent`: matrix products of sequences, and the LSTM
// layer's passes. lstm_unit.cpp has what happens within a step.

#include "caffe/util/recurrent.hpp"

#ifdef USE_ONEDNN
#include <oneapi/dnnl/dnnl.h>
#endif
#ifdef _OPENMP
#include <omp.h>
#endif

#include <algorithm>
#include <vector>

namespace caffe {
namespace recurrent {

namespace {

const engine::Provider provider(engine::RECURRENT);

// Products of fewer multiplications are not worth a thread (assumed).
const double kProductsWorthThreads = 1 << 18;
// Parts of a product are whole vectors wide.
const int kVector = 16;

int thread_count() {
#ifdef _OPENMP
  return omp_get_max_threads();
#else
  return 1;
#endif
}

// A product with weights that lie along their input takes a quarter longer:
// oneDNN packs them anew in each. From this many steps on turning them pays.
const int kWorthTurning = 4;

// to (columns x rows) = from (rows x columns) turned.
void turn(int rows, int columns, const float* from, float* to) {
  const int kBlock = 16;  // numbers of a line of the cache
#pragma omp parallel for schedule(static)
  for (int begin = 0; begin < rows; begin += kBlock) {
    const int end = std::min(begin + kBlock, rows);
    for (int column = 0; column < columns; ++column) {
      for (int row = begin; row < end; ++row) {
        to[size_t(column) * rows + row] = from[size_t(row) * columns + column];
      }
    }
  }
}

// Where the gradients of a parameter go, and what of them is kept.
struct Gradient {
  float* diff;
  float kept;

  explicit Gradient(Blob<float>* blob) : kept(blob->diff()->zero() ? 0 : 1) {
    diff = kept ? blob->mutable_cpu_diff() : blob->overwritten_cpu_diff_in(1);
  }
};

}  // namespace

template <>
Product<float>::Function Product<float>::OfAxis(int axis) {
  return axis > 1 && enabled<float>() ? Multiply : caffe_cpu_gemm<float>;
}

template <>
Product<double>::Function Product<double>::OfAxis(int) {
  return caffe_cpu_gemm<double>;
}

void Multiply(CBLAS_TRANSPOSE a_is, CBLAS_TRANSPOSE b_is, int m, int n, int k,
    float factor, const float* a, const float* b, float kept, float* c) {
#ifdef USE_ONEDNN
  if (engine::enabled(engine::ONEDNN)) {
    const bool a_turned = a_is == CblasTrans, b_turned = b_is == CblasTrans;
    // The longer side is shared among the threads. oneDNN itself shares so
    // little of 64 rows that two threads are no faster than one.
    const int side = std::max(m, n);
    int parts = double(m) * n * k < kProductsWorthThreads ? 1 : thread_count();
    const int length =
        ((side + parts - 1) / parts + kVector - 1) / kVector * kVector;
    parts = (side + length - 1) / length;
#pragma omp parallel for schedule(static) if (parts > 1)
    for (int part = 0; part < parts; ++part) {
#ifdef _OPENMP
      // Of this part alone. Where there is one part, oneDNN would share it
      // anew, by threads that OpenMP starts and ends within the call.
      omp_set_num_threads(1);
#endif
      const size_t begin = part * length;
      const int count = std::min<int>(length, side - begin);
      const bool rows = m >= n;
      const dnnl_status_t status = dnnl_sgemm(a_turned ? 'T' : 'N',
          b_turned ? 'T' : 'N', rows ? count : m, rows ? n : count, k, factor,
          rows ? a + begin * (a_turned ? 1 : k) : a, a_turned ? m : k,
          rows ? b : b + begin * (b_turned ? k : 1), b_turned ? k : n, kept,
          rows ? c + begin * n : c + begin, n);
      CHECK_EQ(status, dnnl_success) << "oneDNN refuses a matrix product";
    }
    return;
  }
#endif
  caffe_cpu_gemm<float>(a_is, b_is, m, n, k, factor, a, b, kept, c);
}

// Whether any row remembers what was before a step. Usually none does in the
// first one.
bool LSTMPasses::Remembers(const LSTMParts<float>& lstm, int step) const {
  const int rows = lstm.cont->shape(1);
  const float* cont = lstm.cont->cpu_data() + step * rows;
  return std::count(cont, cont + rows, 0.f) < rows;
}

bool LSTMPasses::Forward(const LSTMParts<float>& lstm) {
  if (!enabled<float>()) { return false; }
  const int steps = lstm.h->shape(0), rows = lstm.h->shape(1);
  const int width = lstm.h->shape(2), inputs = lstm.x->count(2);
  const size_t size = static_cast<size_t>(rows) * width;
  gates_.Reshape({steps, rows, 4 * width});
  cells_.ReshapeLike(*lstm.h);
  remembered_.ReshapeLike(*lstm.h);
  float* gates = gates_.overwritten_cpu_data_in(1);
  float* cells = cells_.overwritten_cpu_data_in(1);
  float* remembered = remembered_.overwritten_cpu_data_in(1);
  float* h = lstm.h->overwritten_cpu_data_in(1);
  const float* cont = lstm.cont->cpu_data();
  const float* last_h = lstm.first_h->cpu_data();
  const float* last_c = lstm.first_c->cpu_data();
  const float* weight = lstm.recurrent_weight->cpu_data();
  const bool turned = steps >= kWorthTurning;
  if (turned) {
    turned_.Reshape({width, 4 * width});
    turn(4 * width, width, weight, turned_.overwritten_cpu_data_in(1));
    weight = turned_.cpu_data();
  }
  Multiply(CblasNoTrans, CblasTrans, steps * rows, 4 * width, inputs, 1,
      lstm.x->cpu_data(), lstm.input_weight->cpu_data(), 0, gates);
  for (int t = 0; t < steps; ++t) {
    for (int n = 0; n < rows; ++n) {
      caffe_cpu_scale(width, cont[n], last_h + n * width,
          remembered + n * width);
    }
    if (Remembers(lstm, t)) {
      Multiply(CblasNoTrans, turned ? CblasNoTrans : CblasTrans, rows,
          4 * width, width, 1, remembered, weight, 1, gates);
    }
    UnitForward(rows, width, cont, last_c, gates, lstm.bias->cpu_data(), gates,
        cells, h);
    last_h = h;
    last_c = cells;
    gates += 4 * size;
    cells += size;
    remembered += size;
    h += size;
    cont += rows;
  }
  caffe_copy(size, last_h, lstm.last_h->overwritten_cpu_data_in(1));
  caffe_copy(size, last_c, lstm.last_c->overwritten_cpu_data_in(1));
  return true;
}

bool LSTMPasses::Backward(const LSTMParts<float>& lstm, bool propagate_down) {
  if (!enabled<float>()) { return false; }
  const int steps = lstm.h->shape(0), rows = lstm.h->shape(1);
  const int width = lstm.h->shape(2), inputs = lstm.x->count(2);
  const size_t size = static_cast<size_t>(rows) * width;
  const float* gates = gates_.cpu_data();
  const float* cells = cells_.cpu_data();
  const float* cont = lstm.cont->cpu_data();
  const float* h_diff = lstm.h->cpu_diff();
  float* gates_diff = gates_.overwritten_cpu_diff_in(1);
  // Of the step behind: what its cell and its gates send to this one.
  float* cell_diff = cells_.overwritten_cpu_diff_in(1);
  float* sent = remembered_.overwritten_cpu_diff_in(1);
  caffe_set(size, 0.f, cell_diff);
  bool sends = false;
  int first = steps;  // of the steps from which on all remember
  for (int t = steps - 1; t >= 0; --t) {
    UnitBackward(rows, width,
        t ? cells + (t - 1) * size : lstm.first_c->cpu_data(),
        gates + 4 * t * size, cells + t * size, cell_diff, h_diff + t * size,
        cont + (t + 1) * rows, sends ? sent : NULL, cell_diff,
        gates_diff + 4 * t * size);
    sends = Remembers(lstm, t);
    if (sends && t) {
      Multiply(CblasNoTrans, CblasNoTrans, rows, width, 4 * width, 1,
          gates_diff + 4 * t * size, lstm.recurrent_weight->cpu_data(), 0,
          sent);
    }
    if (sends) { first = t; }
  }
  const Gradient input_weight(lstm.input_weight);
  Multiply(CblasTrans, CblasNoTrans, 4 * width, inputs, steps * rows, 1,
      gates_diff, lstm.x->cpu_data(), input_weight.kept, input_weight.diff);
  if (first < steps) {
    const Gradient recurrent_weight(lstm.recurrent_weight);
    Multiply(CblasTrans, CblasNoTrans, 4 * width, width,
        (steps - first) * rows, 1, gates_diff + 4 * first * size,
        remembered_.cpu_data() + first * size, recurrent_weight.kept,
        recurrent_weight.diff);
  }
  float* bias_diff = lstm.bias->mutable_cpu_diff();
  for (int row = 0; row < steps * rows; ++row) {
    caffe_axpy(4 * width, 1.f, gates_diff + size_t(row) * 4 * width,
        bias_diff);
  }
  if (propagate_down) {
    Multiply(CblasNoTrans, CblasNoTrans, steps * rows, inputs, 4 * width, 1,
        gates_diff, lstm.input_weight->cpu_data(), 0,
        lstm.x->overwritten_cpu_diff_in(1));
  }
  return true;
}

}  // namespace recurrent
}  // namespace caffe
