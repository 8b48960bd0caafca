#include <algorithm>
#include <utility>
#include <vector>

#include "caffe/util/engine.hpp"
#include "caffe/util/memory_pool.hpp"

namespace caffe {

namespace {

const engine::Provider memory_provider(engine::MEMORY);

struct Slot {
  size_t bytes;
  int busy_until;
};

// A free slot: the smallest that is large enough, else the largest.
int FindSlot(const vector<Slot>& slots, int step, size_t bytes) {
  int best = -1;
  for (int i = 0; i < slots.size(); ++i) {
    if (slots[i].busy_until >= step) { continue; }
    const bool fits = slots[i].bytes >= bytes;
    const bool best_fits = best >= 0 && slots[best].bytes >= bytes;
    if (best < 0 || (fits && !best_fits) ||
        (fits == best_fits && (slots[i].bytes < slots[best].bytes) == fits)) {
      best = i;
    }
  }
  return best;
}

}  // namespace

vector<shared_ptr<SyncedMemory> > PoolMemory(const vector<Lifetime>& lifetimes,
    int slack) {
  vector<std::pair<int, int> > order;
  for (int i = 0; i < lifetimes.size(); ++i) {
    order.push_back(std::make_pair(lifetimes[i].begin, i));
  }
  std::sort(order.begin(), order.end());
  vector<Slot> slots;
  vector<int> slot_of(lifetimes.size());
  for (int k = 0; k < order.size(); ++k) {
    const Lifetime& lifetime = lifetimes[order[k].second];
    int slot = FindSlot(slots, lifetime.begin, lifetime.bytes);
    if (slot < 0) {
      slot = slots.size();
      slots.push_back(Slot());
    }
    slots[slot].bytes = std::max(slots[slot].bytes, lifetime.bytes);
    slots[slot].busy_until = lifetime.end + slack;
    slot_of[order[k].second] = slot;
  }
  vector<shared_ptr<SyncedMemory> > memory;
  for (int i = 0; i < slots.size(); ++i) {
    memory.push_back(shared_ptr<SyncedMemory>(
        new SyncedMemory(slots[i].bytes)));
    memory.back()->set_pooled();
  }
  vector<shared_ptr<SyncedMemory> > result;
  for (int i = 0; i < lifetimes.size(); ++i) {
    result.push_back(memory[slot_of[i]]);
  }
  return result;
}

}  // namespace caffe
