// The work items of a `stream` launch, and the order in which its blocks take them.
//
// The statistics of a *set* are complete at the same time. A set is cut into slabs.
//   sums(set, slab)   reads x (and dy) and leaves the slab's sums. The block that
//                     brings the last sums of a set joins them, in a fixed order, and
//                     raises the set's flag.
//   apply(set, slab)  reads x (and dy) again and writes y (or dx).
//   params(i)         adds up some of dgamma and dbeta over the sets, at the end.
//
// All items are in one order. In it, a set's apply follows the set's sums at a
// distance: near enough for x to be still in L2, far enough for the sums to be
// complete. Blocks take items in this order, by ticket. An item waits only for items
// before it. Therefore the first item that is not done can always go on, however few
// blocks are resident, and there is no deadlock. The result does not depend on which
// block takes an item, nor on which block comes last.
#pragma once

#include <cstdint>

#include "core/portability.h"
#include "cuda/kernels/common/divider.h"

namespace fusednorm {
namespace cuda {

enum class ItemKind { kSums, kApply, kParams, kEnd };

struct Item {
  ItemKind kind;
  int64_t set;
  int slab;  // for kParams the number of the item
};

struct StreamOrder {
  int64_t sets = 1;
  Divider slabs;  // slabs of a set
  // For i = 0, 1, ... the order has first the sums of slab i and then the apply of slab
  // i - lag, where these slabs exist.
  int64_t lag = 1;
  int params = 0;
  // For sets that are larger than L2: apply takes the slabs of a set from the end,
  // since L2 has the latest ones.
  bool backwards = false;

  int64_t counter_bytes = 0;  // at the start of the workspace; zero at the launch
  int64_t shares_offset = 0;  // backward: bytes before the JoinedShares of all groups

  FUSEDNORM_INLINE int64_t items() const { return 2 * sets * slabs.divisor() + params; }

  FUSEDNORM_INLINE Item ItemOf(int64_t ticket) const {
    const int64_t all = sets * slabs.divisor();
    if (ticket >= 2 * all) {
      const int64_t i = ticket - 2 * all;
      return {i < params ? ItemKind::kParams : ItemKind::kEnd, 0, static_cast<int>(i)};
    }
    // First only sums, then sums and apply in turn, then only apply.
    int64_t i = ticket;
    ItemKind kind = ItemKind::kSums;
    if (ticket >= 2 * all - lag) {
      i = ticket - all;
      kind = ItemKind::kApply;
    } else if (ticket >= lag) {
      i = (ticket - lag) >> 1;
      kind = ((ticket - lag) & 1) != 0 ? ItemKind::kApply : ItemKind::kSums;
      if (kind == ItemKind::kSums) i += lag;
    }
    const int64_t set = slabs.Divide(i), slab = i - set * slabs.divisor();
    const bool turned = backwards && kind == ItemKind::kApply;
    return {kind, set, static_cast<int>(turned ? slabs.divisor() - 1 - slab : slab)};
  }

  template <class Visit>
  void ForEach(Visit&& visit) const {
    visit("sets", sets);
    visit("slabs", slabs.divisor());
    visit("lag", lag);
    visit("params", params);
    visit("backwards", backwards);
  }
};

// Counters of 32 bits. The next ticket takes the first two. Then comes the number of
// complete sets. Then each set has the number of its slabs whose sums have arrived, and
// a flag that says whether the set is complete.
constexpr int kTicket = 0;
constexpr int kSetsComplete = 2;
constexpr int kFirstSetCounter = 4;
constexpr int kCountersOfSet = 2;
constexpr int64_t CounterBytes(int64_t sets) {
  return (kFirstSetCounter + kCountersOfSet * sets) * 4;
}
// The shared memory of the queue: two items and a flag.
constexpr int64_t kQueueBytes = 80;

}  // namespace cuda
}  // namespace fusednorm
