#ifndef CAFFE_UTIL_CPU_CLONES_HPP_
#define CAFFE_UTIL_CPU_CLONES_HPP_

/// Compiles a function for AVX-512, for AVX2 and for any x86-64; the loader
/// picks the one that fits the machine. What is called from it must be inlined
/// (CAFFE_INLINE) to be compiled likewise. GCC does not clone what stands in an
/// OpenMP region: the loop over threads belongs outside.
#if defined(__x86_64__) && defined(__GNUC__) && __GNUC__ >= 12 && \
    !defined(__clang__)
#define CAFFE_CPU_CLONES \
    __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", \
        "default")))
#else
#define CAFFE_CPU_CLONES
#endif

#define CAFFE_INLINE inline __attribute__((always_inline))

#endif  // CAFFE_UTIL_CPU_CLONES_HPP_
