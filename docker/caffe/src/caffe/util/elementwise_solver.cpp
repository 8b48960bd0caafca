// The step of SGD on the CPU; descend_device.cu has that of GPUs.

#include "caffe/util/elementwise_layers.hpp"
#include "caffe/util/large.hpp"

namespace caffe {
namespace elementwise {

bool Descend(float rate, float momentum, float decay, Blob<float>* parameter,
    Blob<float>* history) {
  if (!enabled<float>()) { return false; }
  // A fixed weight that has come to rest is not even read.
  if (rate == 0 && history->asum_data() == 0) { return true; }
  if (large::DescendProduct(rate, momentum, decay, parameter, history)) {
    return true;
  }
  SyncedMemory* const memory[] = { parameter->diff().get(),
      history->data().get(), parameter->data().get() };
  bool blocked = memory[0]->block() > 1;
  for (int i = 0; i < 3; ++i) { blocked = blocked && !memory[i]->watched(); }
  float* numbers[3];
  for (int i = 0; i < 3; ++i) {
    numbers[i] = static_cast<float*>(blocked ?
        memory[i]->mutable_blocked_cpu_data(memory[0]->layout()) :
        memory[i]->mutable_cpu_data());
    memory[i]->free_ordered();
  }
  descend(parameter->count(), rate, momentum, decay, numbers[0], numbers[1],
      numbers[2]);
  return true;
}

}  // namespace elementwise
}  // namespace caffe
