// Runs the device's kernels on the host: all blocks of a grid, and in each all
// threads up to the point where they wait for each other.

#include "caffe/util/chain_kernels.hpp"

using namespace caffe::kernels;  // NOLINT(build/namespaces)

namespace {

template <typename Work>
void ForAll(int blocks, const Work& work) {
  for (int block = 0; block < blocks; ++block) {
    for (int thread = 0; thread < kThreads; ++thread) {
      work(Place{block, thread, blocks});
    }
  }
}

float SumOfBlock(float* numbers) {
  for (int width = kThreads / 2; width; width /= 2) {
    for (int thread = 0; thread < kThreads; ++thread) {
      halve(numbers, thread, width);
    }
  }
  return numbers[0];
}

template <int kWidth>
void BackwardBlocks(const Backward& of) {
  float scaled[kThreads], plain[kThreads];
  const int blocks = of.channels * of.parts;
  for (int block = 0; block < blocks; ++block) {
    for (int thread = 0; thread < kThreads; ++thread) {
      backward<kWidth>(of, Place{block, thread, blocks}, &scaled[thread],
          &plain[thread]);
    }
    if (!of.sums) { continue; }
    const int part = block / of.channels, channel = block % of.channels;
    of.sums[2 * part * of.channels + channel] = SumOfBlock(scaled);
    of.sums[(2 * part + 1) * of.channels + channel] = SumOfBlock(plain);
  }
}

}  // namespace

extern "C" {

void run_affine(const Affine* of) {
  ForAll(1, [=](Place at) { affine(*of, at); });
}

void run_forward(const Forward* of, int width, int blocks) {
  ForAll(blocks, [=](Place at) {
    width == 4 ? forward<4>(*of, at) : forward<1>(*of, at);
  });
}

void run_backward(const Backward* of, int width, float* gamma_diff,
    float* beta_diff) {
  width == 4 ? BackwardBlocks<4>(*of) : BackwardBlocks<1>(*of);
  if (!of->sums) { return; }
  ForAll((of->channels + kThreads - 1) / kThreads, [=](Place at) {
    add_parts(of->channels, of->parts, of->sums, 0, gamma_diff, at);
    add_parts(of->channels, of->parts, of->sums, 1, beta_diff, at);
  });
}

/// Fills in the parameters' first blocks; returns the number of blocks.
int run_descend(Parameter* parameters, int number, float momentum, float norm) {
  int blocks = 0;
  for (int i = 0; i < number; ++i) {
    parameters[i].first_block = blocks;
    blocks += blocks_of(parameters[i].count);
  }
  ForAll(blocks, [=](Place at) {
    descend(parameters, number, momentum, norm, at);
  });
  return blocks;
}

}  // extern "C"
