// Net::PoolMemory, CAFFE_ENGINE's part `memory`: which blobs of a net share
// memory, on the CPU.
//
// In a solver's net the gradients of blobs share, each from the backward pass
// of the layers that read the blob to that of the layer that made it, and so do
// the data of layers that compute no gradient (a fixed trunk). A net for
// inference shares all its data but for its inputs, its outputs and the blobs
// that are to be kept. Only maps (blobs of more than two axes) between layers
// that are known to write all they are asked for take part; parameters, scores,
// losses' weights, inputs and outputs never do, nor does a blob of which a
// NumPy array was alive when memory was planned. It is planned when the first
// pass after a change of sizes begins.

#include <algorithm>
#include <string>
#include <vector>

#include "caffe/layer.hpp"
#include "caffe/net.hpp"
#include "caffe/util/engine.hpp"
#include "caffe/util/memory_pool.hpp"

namespace caffe {

namespace {

// Up to this many layers are computed as one, at the time of the first or of
// the last of them (ChainFusion): memory is not used again sooner.
const int kFusedLayers = 5;

// Layers that write all of their tops and of the gradients of their bottoms,
// and read neither before nor afterwards what they write. Others keep memory
// of their own, as do the blobs next to them.
bool WritesAll(const string& type, int num_bottom) {
  static const char* const kTypes[] = { "BatchNorm", "Concat", "Convolution",
      "Eltwise", "InnerProduct", "Pooling", "ReLU", "Reduction",
      "SemanticAttention", "Sigmoid", "SigmoidCrossEntropyLoss", "Softmax",
      "Split" };
  if (type == "Scale") { return num_bottom == 1; }
  if (type == "Concat" && num_bottom == 1) { return false; }
  return std::count(kTypes, kTypes + sizeof(kTypes) / sizeof(*kTypes), type);
}

// Scores, losses and labels (N x labels) keep memory of their own: they save
// nothing, and they are what people read.
template <typename Dtype>
bool IsMap(const Blob<Dtype>& blob) {
  return blob.num_axes() > 2;
}

// Whether a NumPy array of the numbers is alive, which must go on to show them.
bool IsWatched(const shared_ptr<SyncedMemory>& memory) {
  return memory && memory->watched();
}

// Layers whose tops are the same memory as their bottom.
bool SharesData(const string& type, int num_bottom) {
  return type == "Split" || type == "Reshape" || type == "Flatten" ||
      (type == "Concat" && num_bottom == 1);
}

}  // namespace

template <typename Dtype>
void Net<Dtype>::PoolMemory(bool backward, const vector<string>& kept) {
  if (!engine::enabled(engine::MEMORY)) { return; }
  pools_memory_ = true;
  pools_for_backward_ = backward;
  pool_kept_ = set<string>(kept.begin(), kept.end());
  for (set<string>::const_iterator name = pool_kept_.begin();
       name != pool_kept_.end(); ++name) {
    CHECK(has_blob(*name)) << "Unknown blob name " << *name;
  }
  pool_capacities_.clear();
  if (backward) { return; }
  for (int i = 0; i < layers_.size(); ++i) {
    for (int j = 0; j < layers_[i]->blobs().size(); ++j) {
      layers_[i]->set_param_propagate_down(j, false);
    }
  }
}

// The gradient of a blob is written by the last layer that reads the blob,
// changed by those that compute in place, and read by the one that made it.
template <typename Dtype>
void Net<Dtype>::PoolDiffs() {
  const int layers = layers_.size();
  vector<int> maker(blobs_.size(), -1), reader(blobs_.size(), -1);
  vector<bool> poolable(blobs_.size(), true);
  for (int i = 0; i < layers; ++i) {
    const bool whole = layer_need_backward_[i] &&
        WritesAll(layers_[i]->type(), bottom_vecs_[i].size());
    for (int j = 0; j < bottom_vecs_[i].size(); ++j) {
      const int blob = bottom_id_vecs_[i][j];
      reader[blob] = i;
      if (!whole || !bottom_need_backward_[i][j]) { poolable[blob] = false; }
    }
    for (int j = 0; j < top_vecs_[i].size(); ++j) {
      const int blob = top_id_vecs_[i][j];
      if (maker[blob] < 0) { maker[blob] = i; }
      // In place: whoever reads it, if anybody, comes later.
      if (reader[blob] == i) { reader[blob] = -1; }
      // The gradient of a loss is its weight, which is written once for all.
      if (!whole || layers_[i]->loss(j) != 0) { poolable[blob] = false; }
    }
  }
  vector<Lifetime> lifetimes;
  vector<int> owners;
  for (int blob = 0; blob < blobs_.size(); ++blob) {
    if (!poolable[blob] || reader[blob] < 0 || !IsMap(*blobs_[blob]) ||
        IsWatched(blobs_[blob]->diff())) {
      continue;
    }
    const Lifetime lifetime = { layers - 1 - reader[blob],
        layers - 1 - maker[blob], blobs_[blob]->capacity() * sizeof(Dtype) };
    lifetimes.push_back(lifetime);
    owners.push_back(blob);
  }
  const vector<shared_ptr<SyncedMemory> > memory =
      caffe::PoolMemory(lifetimes, kFusedLayers);
  for (int i = 0; i < owners.size(); ++i) {
    pooled_diffs_[owners[i]] = memory[i];
  }
}

// The data of a blob are needed from the layer that makes it to the last one
// that reads it or a blob that is the same memory; or for good, if a layer that
// does so computes gradients.
template <typename Dtype>
void Net<Dtype>::PoolData() {
  vector<int> root(blobs_.size()), maker(blobs_.size(), -1);
  vector<int> last(blobs_.size(), -1);
  vector<bool> poolable(blobs_.size(), true);
  for (int blob = 0; blob < blobs_.size(); ++blob) { root[blob] = blob; }
  for (int i = 0; i < layers_.size(); ++i) {
    const string type = layers_[i]->type();
    const int num_bottom = bottom_vecs_[i].size();
    vector<int> touched;
    for (int j = 0; j < num_bottom; ++j) {
      touched.push_back(root[bottom_id_vecs_[i][j]]);
    }
    for (int j = 0; j < top_vecs_[i].size(); ++j) {
      const int blob = top_id_vecs_[i][j];
      if (SharesData(type, num_bottom)) {
        root[blob] = root[bottom_id_vecs_[i][0]];
      }
      if (maker[root[blob]] < 0) { maker[root[blob]] = i; }
      touched.push_back(root[blob]);
      if (layers_[i]->loss(j) != 0 || pool_kept_.count(blob_names_[blob])) {
        poolable[root[blob]] = false;
      }
    }
    for (int j = 0; j < touched.size(); ++j) {
      last[touched[j]] = i;
      if (!(WritesAll(type, num_bottom) || SharesData(type, num_bottom)) ||
          (pools_for_backward_ && layer_need_backward_[i])) {
        poolable[touched[j]] = false;
      }
    }
  }
  for (int i = 0; i < net_output_blob_indices_.size(); ++i) {
    poolable[root[net_output_blob_indices_[i]]] = false;
  }
  vector<Lifetime> lifetimes;
  vector<int> owners;
  for (int blob = 0; blob < blobs_.size(); ++blob) {
    if (!poolable[blob] || root[blob] != blob || !IsMap(*blobs_[blob]) ||
        IsWatched(blobs_[blob]->data())) {
      continue;
    }
    const Lifetime lifetime = { maker[blob], last[blob],
        blobs_[blob]->capacity() * sizeof(Dtype) };
    lifetimes.push_back(lifetime);
    owners.push_back(blob);
  }
  const vector<shared_ptr<SyncedMemory> > memory =
      caffe::PoolMemory(lifetimes, kFusedLayers);
  for (int i = 0; i < owners.size(); ++i) {
    pooled_data_[owners[i]] = memory[i];
  }
}

template <typename Dtype>
void Net<Dtype>::UsePooledMemory() {
  if (!pools_memory_ || Caffe::mode() != Caffe::CPU) { return; }
  vector<int> capacities;
  for (int blob = 0; blob < blobs_.size(); ++blob) {
    capacities.push_back(blobs_[blob]->capacity());
  }
  if (capacities != pool_capacities_) {
    pool_capacities_ = capacities;
    pooled_data_.assign(blobs_.size(), shared_ptr<SyncedMemory>());
    pooled_diffs_.assign(blobs_.size(), shared_ptr<SyncedMemory>());
    PoolData();
    if (pools_for_backward_) { PoolDiffs(); }
  }
  for (int blob = 0; blob < blobs_.size(); ++blob) {
    if (pooled_data_[blob]) { blobs_[blob]->UseDataMemory(pooled_data_[blob]); }
    if (pooled_diffs_[blob]) {
      blobs_[blob]->UseDiffMemory(pooled_diffs_[blob]);
    }
  }
}

template <typename Dtype>
void Net<Dtype>::CheckDataKept(int start, int end) const {
  if (start == 0) { return; }
  set<int> made;
  for (int i = start; i <= end; ++i) {
    for (int j = 0; j < bottom_vecs_[i].size(); ++j) {
      const int blob = bottom_id_vecs_[i][j];
      const shared_ptr<SyncedMemory>& data = blobs_[blob]->data();
      CHECK(made.count(blob) || !data || !data->pooled())
          << "Layer " << layer_names_[i] << " reads blob " << blob_names_[blob]
          << ", which shares its memory and is gone: a forward pass has to "
          << "begin with the layer that computes it.";
    }
    made.insert(top_id_vecs_[i].begin(), top_id_vecs_[i].end());
  }
}

#define INSTANTIATE_NET_MEMORY(Dtype) \
  template void Net<Dtype>::PoolMemory(bool, const vector<string>&); \
  template void Net<Dtype>::CheckDataKept(int, int) const; \
  template void Net<Dtype>::UsePooledMemory()

INSTANTIATE_NET_MEMORY(float);
INSTANTIATE_NET_MEMORY(double);

}  // namespace caffe
