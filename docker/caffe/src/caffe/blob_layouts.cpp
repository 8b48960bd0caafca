// Blob's numbers in the layouts of HostBuffer, and in memory that blobs share.

#include "caffe/blob.hpp"

namespace caffe {

template <typename Dtype>
BlockedLayout Blob<Dtype>::blocked_layout(int block) const {
  CHECK_EQ(sizeof(Dtype), sizeof(float)) << "blocked layouts are for floats";
  CHECK_EQ(0, shape(1) % block);
  const BlockedLayout layout = {shape(0), shape(1), count(2), block, false};
  return layout;
}

template <typename Dtype>
BlockedLayout Blob<Dtype>::half_layout() const {
  const BlockedLayout layout = {shape(0), shape(1), count(2), shape(1), false,
      true};
  return layout;
}

template <typename Dtype>
int Blob<Dtype>::block_of(const SyncedMemory& memory) const {
  const int block = memory.block();
  if (block == 1 || num_axes() < 2 || shape(1) % block != 0) { return 1; }
  return memory.is_blocked(blocked_layout(block)) ? block : 1;
}

template <typename Dtype>
const Dtype* Blob<Dtype>::cpu_data_in(int block) const {
  if (block == 1) { return cpu_data(); }
  return static_cast<const Dtype*>(
      data_->blocked_cpu_data(blocked_layout(block)));
}

template <typename Dtype>
const Dtype* Blob<Dtype>::cpu_diff_in(int block) const {
  if (block == 1) { return cpu_diff(); }
  return static_cast<const Dtype*>(
      diff_->blocked_cpu_data(blocked_layout(block)));
}

template <typename Dtype>
Dtype* Blob<Dtype>::mutable_cpu_data_in(int block) {
  if (block == 1) { return mutable_cpu_data(); }
  return static_cast<Dtype*>(
      data_->mutable_blocked_cpu_data(blocked_layout(block)));
}

template <typename Dtype>
Dtype* Blob<Dtype>::mutable_cpu_diff_in(int block) {
  if (block == 1) { return mutable_cpu_diff(); }
  return static_cast<Dtype*>(
      diff_->mutable_blocked_cpu_data(blocked_layout(block)));
}

template <typename Dtype>
Dtype* Blob<Dtype>::overwritten_cpu_data_in(int block) {
  return static_cast<Dtype*>(block == 1 ? data_->overwritten_cpu_data() :
      data_->overwritten_blocked_cpu_data(blocked_layout(block)));
}

template <typename Dtype>
Dtype* Blob<Dtype>::overwritten_cpu_diff_in(int block) {
  return static_cast<Dtype*>(block == 1 ? diff_->overwritten_cpu_data() :
      diff_->overwritten_blocked_cpu_data(blocked_layout(block)));
}

template <typename Dtype>
const uint16_t* Blob<Dtype>::cpu_halves() const {
  return static_cast<const uint16_t*>(data_->blocked_cpu_data(half_layout()));
}

template <typename Dtype>
uint16_t* Blob<Dtype>::overwritten_cpu_halves() {
  return static_cast<uint16_t*>(
      data_->overwritten_blocked_cpu_data(half_layout()));
}

template <typename Dtype>
void Blob<Dtype>::order_watched_data() {
  if (data_ && data_->watched() && data_->blocked()) { mutable_cpu_data(); }
}

template <typename Dtype>
void Blob<Dtype>::order_watched_diff() {
  if (diff_ && diff_->watched() && diff_->blocked()) { mutable_cpu_diff(); }
}

template <typename Dtype>
void Blob<Dtype>::UseDataMemory(const shared_ptr<SyncedMemory>& memory) {
  CHECK_GE(memory->size(), capacity_ * sizeof(Dtype));
  data_ = memory;
}

template <typename Dtype>
void Blob<Dtype>::UseDiffMemory(const shared_ptr<SyncedMemory>& memory) {
  CHECK_GE(memory->size(), capacity_ * sizeof(Dtype));
  diff_ = memory;
}

#define INSTANTIATE_BLOB_LAYOUTS(Dtype) \
  template BlockedLayout Blob<Dtype>::half_layout() const; \
  template const uint16_t* Blob<Dtype>::cpu_halves() const; \
  template uint16_t* Blob<Dtype>::overwritten_cpu_halves(); \
  template int Blob<Dtype>::block_of(const SyncedMemory&) const; \
  template const Dtype* Blob<Dtype>::cpu_data_in(int) const; \
  template const Dtype* Blob<Dtype>::cpu_diff_in(int) const; \
  template Dtype* Blob<Dtype>::mutable_cpu_data_in(int); \
  template Dtype* Blob<Dtype>::mutable_cpu_diff_in(int); \
  template Dtype* Blob<Dtype>::overwritten_cpu_data_in(int); \
  template Dtype* Blob<Dtype>::overwritten_cpu_diff_in(int); \
  template void Blob<Dtype>::order_watched_data(); \
  template void Blob<Dtype>::order_watched_diff(); \
  template void Blob<Dtype>::UseDataMemory(const shared_ptr<SyncedMemory>&); \
  template void Blob<Dtype>::UseDiffMemory(const shared_ptr<SyncedMemory>&)

INSTANTIATE_BLOB_LAYOUTS(float);
INSTANTIATE_BLOB_LAYOUTS(double);

}  // namespace caffe
