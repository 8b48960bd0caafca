#ifndef CAFFE_UTIL_FUSION_HPP_
#define CAFFE_UTIL_FUSION_HPP_

#include <vector>

#include "caffe/layer.hpp"

namespace caffe {

template <typename Dtype> class ScaleLayer;

/**
 * @brief Computes chains of a net's layers as one: CAFFE_ENGINE's part `fusion`
 *        on the CPU, where oneDNN computes the convolution, and `device` on a
 *        GPU. The layers are bound by memory: one by one they read and write
 *        each map seven to ten times.
 *
 * A chain is a convolution, then in place BatchNorm with stored statistics and
 * Scale, either or both, then Eltwise, the sum with a blob that is known by
 * then, then ReLU in place; each of them may be missing. On the CPU forward is
 * a single pass of oneDNN; where the backward pass needs what the sum hides,
 * the sum and its ReLU are a second one. A blob that is thereby not computed is
 * computed when somebody reads it, from the convolution's input and weights as
 * they are then: whoever changes these between the pass and the reading gets
 * another blob than stock Caffe's. When its net is gone, reading it is an
 * error. Scale keeps no copy of its input but recovers it from its output,
 * unless a factor is too small for that. Backward is two passes, one without a
 * sum.
 *
 * On a GPU the convolution is the layer's own, and what follows it is one pass
 * forward and one backward (chain_kernels.hpp); every blob is computed. A chain
 * is one there if its backward pass is, or if it has none; a pass that ends
 * within it ends the program.
 *
 * The net falls back to single layers where it has callbacks, prints debug_info
 * or runs only a part of a chain.
 */
class ChainFusion {
 public:
  typedef vector<vector<Blob<float>*> > BlobVectors;

  /// `need_backward` are the layers that the backward pass visits,
  /// `bottom_need_backward` the bottoms whose diff they write.
  ChainFusion(const vector<shared_ptr<Layer<float> > >& layers,
      const BlobVectors& bottoms, const BlobVectors& tops,
      const vector<bool>& need_backward,
      const vector<vector<bool> >& bottom_need_backward);
  ~ChainFusion();

  /// Makes ready for a pass forward; false if this has no chains to ask for.
  /// `watched`: callbacks or debug_info look at single layers in this pass;
  /// `watched_back`: in the one backward.
  bool Begin(bool watched, bool watched_back);
  /// The same for a pass backward.
  bool BeginBackward(bool watched);

  /// Computes the chain that begins at layer `first` and ends at `last` or
  /// before. Returns its number of layers, 0 if there is no such chain.
  int Forward(int first, int last);
  /// The same for the part of a chain behind its convolution, if it was
  /// computed as a chain, ends at layer `last` and begins at `first` or later.
  int Backward(int last, int first);

 private:
  // Positions of layers in the net; -1 where there is none.
  struct Chain {
    int convolution, norm, scale, eltwise, relu, last;
    int addend;  // which bottom of the sum is not the convolution's
    bool fused, deferred;  // the last time: at all, the branch
    bool half;  // its result may be kept as bf16: OnlyConvolved
    vector<float> factor, shift;
    int offset;  // of its factors, then of its shifts, in affine_
  };

  bool Find(int convolution, Chain* chain) const;
  bool InPlace(int layer, const Blob<float>* blob) const;
  bool OnlyConvolved(int last, const Blob<float>* blob) const;
  bool PoolsHalves(int layer) const;
  ScaleLayer<float>& scale_of(const Chain& chain) const;

  // On the CPU (fusion_host.cpp).
  bool Affine(Chain* chain);
  void Convolve(const Chain& chain, const Blob<float>* addend, bool relu,
      bool half, Blob<float>* top);
  void ComputeBranch(int convolution);

  // On a GPU: what Begin, Forward and Backward do (fusion_device.cu).
  void PrepareDevice();
  int ForwardOnDevice(int first, int last);
  int BackwardOnDevice(int last, int first);
  bool FitsDevice(const Chain& chain, int number) const;
  const float* factor_of(const Chain& chain) const;

  const vector<shared_ptr<Layer<float> > >& layers_;
  const BlobVectors& bottoms_;
  const BlobVectors& tops_;
  const vector<bool>& need_backward_;
  const vector<vector<bool> >& bottom_need_backward_;
  vector<Chain> chains_;
  vector<int> by_first_, by_last_, by_layer_;  // layer -> chain or -1
  bool watched_ = false;  // in the pass that has begun

  // What all chains multiply by and add, on a GPU, what of it comes from where,
  // and whether Scale's input is lost; sums of gradients by channel.
  Blob<float> affine_, sums_;
  shared_ptr<SyncedMemory> statistics_;
  Blob<int> lost_;

  DISABLE_COPY_AND_ASSIGN(ChainFusion);
};

/// For a net of these layers, as the constructor takes them; NULL where neither
/// `fusion` nor `device` of the engine is in use, and for nets of doubles.
shared_ptr<ChainFusion> MakeChainFusion(
    const vector<shared_ptr<Layer<float> > >& layers,
    const ChainFusion::BlobVectors& bottoms,
    const ChainFusion::BlobVectors& tops, const vector<bool>& need_backward,
    const vector<vector<bool> >& bottom_need_backward);
inline shared_ptr<ChainFusion> MakeChainFusion(
    const vector<shared_ptr<Layer<double> > >&,
    const vector<vector<Blob<double>*> >&,
    const vector<vector<Blob<double>*> >&, const vector<bool>&,
    const vector<vector<bool> >&) {
  return shared_ptr<ChainFusion>();
}

}  // namespace caffe

#endif  // CAFFE_UTIL_FUSION_HPP_
