#ifndef CAFFE_UTIL_SEMANTIC_ATTENTION_HPP_
#define CAFFE_UTIL_SEMANTIC_ATTENTION_HPP_

namespace caffe {

/// What SemanticAttentionLayer computes on the CPU.
///
/// For a map f (one channel of one image) and a row's number e for the channel,
///   w_p = exp(e f_p) / sum_q exp(e f_q),  out = m = sum_p w_p f_p,
///   df_p = g w_p (1 + e (f_p - m)),       de = g sum_p w_p (f_p - m)^2,
/// where g is the gradient of out. e f_p is largest at the map's maximum, or at
/// its minimum if e is negative: away from this extreme no exponential
/// overflows, and nothing is lost where the products are large and alike. The
/// backward pass computes the exponentials again, so the weights, positions x
/// rows for every channel, are never stored.
///
/// Results do not depend on the number of threads. The kernels for float are
/// compiled for AVX-512, for AVX2 and for any x86-64; the environment variable
/// CAFFE_VECTORS (avx512, avx2 or baseline), read once, names another than the
/// fastest one that the machine can run. Those for double are plain loops.
namespace semantic_attention {

struct Sizes {
  int images, channels, positions, rows;
};

/// features is [images][channels][positions], embeddings [rows][channels], out
/// [images][rows][channels]. What the backward pass wants to know again is
/// [images][channels][rows]: inverse is 1 / sum of exp(e (f - extreme)), away
/// is m - extreme. A NaN in a map or in e makes what it belongs to NaN.
void forward(const Sizes& sizes, const float* features, const float* embeddings,
    float* out, float* inverse, float* away);
void forward(const Sizes& sizes, const double* features,
    const double* embeddings, double* out, double* inverse, double* away);

/// Sets the gradients of features and embeddings; each of them may be NULL.
void backward(const Sizes& sizes, const float* features,
    const float* embeddings, const float* inverse, const float* away,
    const float* out_diff, float* features_diff, float* embeddings_diff);
void backward(const Sizes& sizes, const double* features,
    const double* embeddings, const double* inverse, const double* away,
    const double* out_diff, double* features_diff, double* embeddings_diff);

}  // namespace semantic_attention
}  // namespace caffe

#endif  // CAFFE_UTIL_SEMANTIC_ATTENTION_HPP_
