#ifndef CAFFE_UTIL_WINOGRAD_HPP_
#define CAFFE_UTIL_WINOGRAD_HPP_

#include <cstddef>

namespace caffe {

/**
 * The transforms of Winograd's F(2 x 2, 3 x 3), as Lavin and Gray have it
 * (CVPR 2016, arXiv 1509.09308, section 4.1): four places of a 3 x 3
 * convolution by 16 products a channel, where the sum itself takes 36.
 *
 * A tile is 4 x 4 places of the input and 2 x 2 of the output. Maps lie in
 * blocks of 16 channels. Transformed numbers are 16 matrices: of tiles by
 * channels, for weights of input by output channels.
 */
namespace winograd {

const int kBlock = 16;  // channels
const int kPlaces = 16;  // of a tile

/// Some images' maps, their channels, and the tiles over the output.
struct Tiles {
  int num, channels, height, width;
  int rows, columns;  // of tiles in an image

  size_t matrix() const {
    return static_cast<size_t>(num) * rows * columns * channels;
  }
};

/// Maps with `pad` places of zeros before them into matrices.
void TransformInput(const Tiles& tiles, const int pad[2], const float* maps,
    float* matrices);

/// Weights in blocks (OIhw16i16o) into matrices.
void TransformWeights(int num_output, int channels, const float* blocked,
    float* matrices);

/// What is added to the output: `factor` (with `shift`) and `bias` by channel,
/// `addend` like the maps; NULL where there is none.
struct Epilogue {
  const float* bias;
  const float* factor;
  const float* shift;
  const float* addend;
  bool relu;
};

/// The products of matrices into maps: (x + bias) * factor + shift + addend,
/// and the positive part of it.
void TransformOutput(const Tiles& tiles, const float* matrices,
    const Epilogue& epilogue, float* maps);

}  // namespace winograd
}  // namespace caffe

#endif  // CAFFE_UTIL_WINOGRAD_HPP_
