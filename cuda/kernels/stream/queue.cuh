// How a block takes work items, waits for what they need and says what it has done. All
// this is done by thread 0. It takes each ticket one item ahead, so that no thread
// waits for the atomic operation, and it alone waits for other blocks.
#pragma once

#include "cuda/kernels/common/device.cuh"
#include "cuda/kernels/stream/order.h"

namespace fusednorm {
namespace cuda {

class Queue {
 public:
  FUSEDNORM_DEVICE Queue(const StreamOrder& order, void* workspace)
      : order_(order), counters_(static_cast<uint32_t*>(workspace)), shared_(0) {}

  // Returns the block's next item once the data that it needs is there.
  FUSEDNORM_DEVICE Item Next() {
    if (device::Thread() == 0) {
      if (!Eager()) {
        ticket_ = device::TakeTicket(Ticket());
        Look();
      }
      const int slot = Slot();
      if (shared_.Get(slot + 3) == 0) Await(ItemIn(slot));
    }
    device::SyncBlock();
    const Item item = ItemIn(Slot());
    ++served_;
    return {static_cast<ItemKind>(device::Uniform(static_cast<int>(item.kind))),
            device::Uniform(item.set), device::Uniform(item.slab)};
  }
  // An item calls TakeNext when it starts. From then on it waits for no other block,
  // and only such a block may hold a ticket. It calls LookAtNext after it has issued
  // its first loads.
  FUSEDNORM_DEVICE void TakeNext() {
    if (device::Thread() == 0 && Eager()) {
      ticket_ = device::TakeTicket(Ticket());
    }
  }
  FUSEDNORM_DEVICE void LookAtNext() {
    if (device::Thread() == 0 && Eager()) Look();
  }
  // To be called when the sums of a slab are published. Returns true if they are the
  // last of the set; the sums of all its slabs can then be fetched.
  FUSEDNORM_DEVICE bool CompletesSet(int64_t set) const {
    device::SyncBlock();
    if (device::Thread() == 0) {
      const uint32_t before = device::AddAcquireRelease(Arrived(set));
      shared_.Set(kFlag, before + 1 == static_cast<uint32_t>(order_.slabs.divisor()));
    }
    device::SyncBlock();
    return device::Uniform(shared_.Get(kFlag)) != 0;
  }
  // To be called when what the set's apply needs is published.
  FUSEDNORM_DEVICE void Announce(int64_t set) const {
    device::SyncBlock();
    if (device::Thread() != 0) return;
    device::AddRelease(Complete(set));
    if (order_.params > 0) device::AddRelease(counters_ + kSetsComplete);
  }

 private:
  static constexpr int kSlotNumbers = 4;  // kind, set, slab, ready
  static constexpr int kFlag = 2 * kSlotNumbers;

  FUSEDNORM_DEVICE uint64_t* Ticket() const {
    return reinterpret_cast<uint64_t*>(counters_ + kTicket);
  }
  FUSEDNORM_DEVICE uint32_t* Arrived(int64_t set) const {
    return counters_ + kFirstSetCounter + kCountersOfSet * set;
  }
  FUSEDNORM_DEVICE uint32_t* Complete(int64_t set) const { return Arrived(set) + 1; }
  FUSEDNORM_DEVICE int Slot() const { return kSlotNumbers * (served_ & 1); }
  FUSEDNORM_DEVICE Item ItemIn(int slot) const {
    return {static_cast<ItemKind>(shared_.Get(slot)), shared_.Get(slot + 1),
            static_cast<int>(shared_.Get(slot + 2))};
  }
  // False during a block's first item, because other blocks may not have their first
  // one yet.
  FUSEDNORM_DEVICE bool Eager() const { return served_ > 1; }

  FUSEDNORM_DEVICE bool Ready(const Item& item) const {
    if (item.kind == ItemKind::kApply) {
      return device::LoadAcquire(Complete(item.set)) != 0;
    }
    if (item.kind == ItemKind::kParams) {
      return device::LoadAcquire(counters_ + kSetsComplete) >=
             static_cast<uint32_t>(order_.sets);
    }
    return true;
  }
  FUSEDNORM_DEVICE void Look() {
    const Item item = order_.ItemOf(static_cast<int64_t>(ticket_));
    const int slot = Slot();
    shared_.Set(slot, static_cast<int64_t>(item.kind));
    shared_.Set(slot + 1, item.set);
    shared_.Set(slot + 2, item.slab);
    shared_.Set(slot + 3, Ready(item));
  }
  FUSEDNORM_DEVICE void Await(const Item& item) const {
    while (!Ready(item)) device::BackOff();
  }

  const StreamOrder& order_;
  uint32_t* const counters_;
  const device::Shared<int64_t> shared_;
  int served_ = 0;
  uint64_t ticket_ = 0;
};

// All that a block does. `pass` has a function for each kind of item, and
// JoinSlabs(set).
template <class Pass>
FUSEDNORM_DEVICE void RunItems(const Pass& pass, Queue& queue) {
  for (;;) {
    const Item item = queue.Next();
    if (item.kind == ItemKind::kEnd) return;
    queue.TakeNext();
    if (item.kind == ItemKind::kApply) {
      pass.Apply(item);
    } else if (item.kind == ItemKind::kSums) {
      pass.Sums(item);
      if (!queue.CompletesSet(item.set)) continue;
      pass.JoinSlabs(item.set);
      queue.Announce(item.set);
    } else {
      queue.LookAtNext();
      pass.Params(item);
    }
  }
}

}  // namespace cuda
}  // namespace fusednorm
