// SGD on a GPU as one kernel for all parameters: a net has hundreds of them,
// and most are so small that starting a kernel takes longer than what it does.

#include <algorithm>
#include <vector>

#include "caffe/util/chain_kernels.hpp"
#include "caffe/util/device_alternate.hpp"
#include "caffe/util/elementwise_layers.hpp"
#include "caffe/util/engine.hpp"

namespace caffe {
namespace elementwise {

namespace {

__global__ void DescendKernel(const kernels::Parameter* parameters, int number,
    float momentum, float norm) {
  kernels::descend(parameters, number, momentum, norm, kernels::here());
}

}  // namespace

bool DescendOnDevice(const vector<Blob<float>*>& parameters,
    const vector<float>& rates, const vector<float>& decays,
    const vector<shared_ptr<Blob<float> > >& histories, float rate,
    float momentum, float decay, float norm) {
  if (Caffe::mode() != Caffe::GPU || !engine::enabled(engine::DEVICE)) {
    return false;
  }
  vector<kernels::Parameter> learning;
  int blocks = 0;
  for (int i = 0; i < parameters.size(); ++i) {
    // What does not learn has no history either.
    if (rates[i] == 0 || parameters[i]->count() == 0) { continue; }
    const kernels::Parameter of = {parameters[i]->mutable_gpu_data(),
        parameters[i]->gpu_diff(), histories[i]->mutable_gpu_data(),
        rate * rates[i], decay * decays[i], parameters[i]->count(), blocks};
    learning.push_back(of);
    blocks += kernels::blocks_of(of.count);
  }
  if (!blocks) { return true; }
  SyncedMemory table(learning.size() * sizeof(kernels::Parameter));
  std::copy(learning.begin(), learning.end(),
      static_cast<kernels::Parameter*>(table.mutable_cpu_data()));
  // NOLINT_NEXT_LINE(whitespace/operators)
  DescendKernel<<<blocks, kernels::kThreads>>>(
      static_cast<const kernels::Parameter*>(table.gpu_data()),
      learning.size(), momentum, norm);
  CUDA_POST_KERNEL_CHECK;
  return true;  // the table's memory waits for the kernel before it is freed
}

}  // namespace elementwise
}  // namespace caffe
