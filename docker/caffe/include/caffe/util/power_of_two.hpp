#ifndef CAFFE_UTIL_POWER_OF_TWO_HPP_
#define CAFFE_UTIL_POWER_OF_TWO_HPP_

#include <cstring>

#include "caffe/util/cpu_clones.hpp"

namespace caffe {

const float kLog2E = 1.44269504f;

/// 2^y for y from -126 to 126: of a number, or of a vector of them. Bits: as
/// many unsigned integers.
template <typename Bits, typename Floats>
CAFFE_INLINE void power_of_two(const Floats& y, Floats* power) {
  const float round = 12582912.f;  // 1.5 * 2^23: has no bits behind the point
  const Floats whole = y + round;
  const Floats rest = y - (whole - round);
  // The polynomial with p(0) = 1 that has the least relative error on
  // [-0.5, 0.5], which is 1.1e-7 in float; found by linear programming.
  Floats p = rest * 1.326465239e-3f + 9.671511324e-3f;
  p = p * rest + 5.550733963e-2f;
  p = p * rest + 2.402224212e-1f;
  p = p * rest + 6.931469775e-1f;
  p = p * rest + 1.f;
  Bits bits, exponent;
  std::memcpy(&bits, &p, sizeof(bits));
  std::memcpy(&exponent, &whole, sizeof(exponent));
  bits += exponent << 23;
  std::memcpy(power, &bits, sizeof(bits));
}

/// Functions of single numbers that loops compute by vectors. Not in caffe
/// itself, where layers have functions of the same names.
namespace vectors {

const float kMostExponent = 126;  // of 2: no smaller numbers, no infinity

/// e^x for x <= 0, with 0 for what is below 2^-126; of a NaN a NaN.
CAFFE_INLINE float exponential(float x) {
  const float y = kLog2E * x;
  float power;
  power_of_two<unsigned int>(y < -kMostExponent ? -kMostExponent : y, &power);
  power = y < -kMostExponent ? 0 : power;
  return x == x ? power : x;
}

/// 1 / (1 + e^-x), of a NaN a NaN.
CAFFE_INLINE float sigmoid(float x) {
  float y = -kLog2E * x;
  y = y < -kMostExponent ? -kMostExponent : y;
  y = y > kMostExponent ? kMostExponent : y;
  float power;
  power_of_two<unsigned int>(y, &power);
  return x == x ? 1 / (1 + power) : x;
}

}  // namespace vectors

}  // namespace caffe

#endif  // CAFFE_UTIL_POWER_OF_TWO_HPP_
