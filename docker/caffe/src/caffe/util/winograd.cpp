#include "caffe/util/winograd.hpp"

#include "caffe/util/elementwise_rows.hpp"

namespace caffe {
namespace winograd {

namespace {

using elementwise::Lanes;
using elementwise::load;
using elementwise::store;

// Equation 8 of the paper has the three matrices: B' for a column of the input,
// G of the kernel, A' of the products.
CAFFE_INLINE void input_column(const Lanes x[4], Lanes y[4]) {
  y[0] = x[0] - x[2];
  y[1] = x[1] + x[2];
  y[2] = x[2] - x[1];
  y[3] = x[1] - x[3];
}

CAFFE_INLINE void weight_column(const Lanes x[3], Lanes y[4]) {
  const Lanes sum = (x[0] + x[2]) * 0.5f, half = x[1] * 0.5f;
  y[0] = x[0];
  y[1] = sum + half;
  y[2] = sum - half;
  y[3] = x[2];
}

CAFFE_INLINE void output_column(const Lanes x[4], Lanes y[2]) {
  y[0] = x[0] + x[1] + x[2];
  y[1] = x[1] - x[2] - x[3];
}

// A row of an image's tiles; v is the first matrix at that row.
CAFFE_CPU_CLONES
void input_row(const Tiles& t, const int pad[2], int row, const float* image,
    float* v) {
  const Lanes zero = {};
  const int top = 2 * row - pad[0];
  for (int tile = 0; tile < t.columns; ++tile) {
    const int left = 2 * tile - pad[1];
    for (int block = 0; block < t.channels / kBlock; ++block) {
      const float* const map = image +
          static_cast<size_t>(block) * t.height * t.width * kBlock;
      Lanes columns[4][4];  // by column of the tile, then row
      for (int j = 0; j < 4; ++j) {
        Lanes x[4];
        for (int i = 0; i < 4; ++i) {
          const int y = top + i, at = left + j;
          const bool inside = y >= 0 && y < t.height && at >= 0 && at < t.width;
          x[i] = inside ?
              load(map + (static_cast<size_t>(y) * t.width + at) * kBlock) :
              zero;
        }
        input_column(x, columns[j]);
      }
      float* const to = v + static_cast<size_t>(tile) * t.channels +
          block * kBlock;
      for (int i = 0; i < 4; ++i) {
        const Lanes x[4] = {columns[0][i], columns[1][i], columns[2][i],
            columns[3][i]};
        Lanes y[4];
        input_column(x, y);
        for (int j = 0; j < 4; ++j) {
          store(y[j], to + (4 * i + j) * t.matrix());
        }
      }
    }
  }
}

// All weights from one block of channels to another; u is the first matrix at
// these.
CAFFE_CPU_CLONES
void weight_block(int num_output, size_t matrix, const float* blocked,
    float* u) {
  for (int channel = 0; channel < kBlock; ++channel) {
    Lanes columns[3][4];
    for (int j = 0; j < 3; ++j) {
      Lanes x[3];
      for (int i = 0; i < 3; ++i) {
        x[i] = load(blocked + ((3 * i + j) * kBlock + channel) * kBlock);
      }
      weight_column(x, columns[j]);
    }
    float* const to = u + static_cast<size_t>(channel) * num_output;
    for (int i = 0; i < 4; ++i) {
      const Lanes x[3] = {columns[0][i], columns[1][i], columns[2][i]};
      Lanes y[4];
      weight_column(x, y);
      for (int j = 0; j < 4; ++j) { store(y[j], to + (4 * i + j) * matrix); }
    }
  }
}

// A row of an image's tiles; m is the first matrix at that row.
CAFFE_CPU_CLONES
void output_row(const Tiles& t, int row, const float* m, const Epilogue& e,
    float* image) {
  for (int tile = 0; tile < t.columns; ++tile) {
    for (int channel = 0; channel < t.channels; channel += kBlock) {
      const float* const from = m + static_cast<size_t>(tile) * t.channels +
          channel;
      Lanes columns[4][2];
      for (int j = 0; j < 4; ++j) {
        Lanes x[4];
        for (int i = 0; i < 4; ++i) {
          x[i] = load(from + (4 * i + j) * t.matrix());
        }
        output_column(x, columns[j]);
      }
      Lanes bias = {}, factor = {}, shift = {};
      if (e.bias) { bias = load(e.bias + channel); }
      if (e.factor) {
        factor = load(e.factor + channel);
        shift = load(e.shift + channel);
      }
      const size_t map = static_cast<size_t>(channel) * t.height * t.width;
      for (int i = 0; i < 2 && 2 * row + i < t.height; ++i) {
        const Lanes x[4] = {columns[0][i], columns[1][i], columns[2][i],
            columns[3][i]};
        Lanes y[2];
        output_column(x, y);
        for (int j = 0; j < 2 && 2 * tile + j < t.width; ++j) {
          const size_t place = map + (static_cast<size_t>(2 * row + i) *
              t.width + 2 * tile + j) * kBlock;
          y[j] += bias;
          if (e.factor) { y[j] = y[j] * factor + shift; }
          if (e.addend) { y[j] += load(e.addend + place); }
          store(e.relu ? elementwise::positive(y[j]) : y[j], image + place);
        }
      }
    }
  }
}

}  // namespace

void TransformInput(const Tiles& t, const int pad[2], const float* maps,
    float* matrices) {
  const size_t image = static_cast<size_t>(t.channels) * t.height * t.width;
  const size_t row = static_cast<size_t>(t.columns) * t.channels;
  elementwise::for_rows(static_cast<long>(t.num) * t.rows, row * kPlaces,
      [&](long i) {
        input_row(t, pad, i % t.rows, maps + i / t.rows * image,
            matrices + i * row);
      });
}

void TransformWeights(int num_output, int channels, const float* blocked,
    float* matrices) {
  const long inputs = channels / kBlock;
  elementwise::for_rows(num_output / kBlock * inputs, 9 * kBlock * kBlock,
      [&](long i) {
        const long from = i % inputs, to = i / inputs;
        weight_block(num_output, static_cast<size_t>(num_output) * channels,
            blocked + i * 9 * kBlock * kBlock,
            matrices + (from * num_output + to) * kBlock);
      });
}

void TransformOutput(const Tiles& t, const float* matrices,
    const Epilogue& epilogue, float* maps) {
  const size_t image = static_cast<size_t>(t.channels) * t.height * t.width;
  const size_t row = static_cast<size_t>(t.columns) * t.channels;
  elementwise::for_rows(static_cast<long>(t.num) * t.rows, row * kPlaces,
      [&](long i) {
        const size_t place = i / t.rows * image;
        Epilogue e = epilogue;
        if (e.addend) { e.addend += place; }
        output_row(t, i % t.rows, matrices + i * row, e, maps + place);
      });
}

}  // namespace winograd
}  // namespace caffe
