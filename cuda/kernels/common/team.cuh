// A team is the threads that share a row, and these are sums over it. Every thread of a
// team gets the same bits. The order of additions depends on the team's size alone.
#pragma once

#include "cuda/kernels/common/device.cuh"
#include "cuda/kernels/common/shared_layout.h"

namespace fusednorm {
namespace cuda {

// The sum over `lanes` neighbouring lanes, a power of two. All lanes of the warp must
// call.
template <class C>
FUSEDNORM_DEVICE C LaneSum(C value, int lanes) {
  for (int mask = lanes / 2; mask > 0; mask /= 2) {
    value += device::ShuffleXor(value, mask);
  }
  return value;
}

// Adds up the values of `team` neighbouring warps, a power of two, or of all warps of
// the block if `team` is 0. All lanes of a warp must have the same value. Every thread
// gets the sums. Uses shared memory of kWarpSums numbers, from `offset` on, and has one
// barrier of the block.
template <class C>
FUSEDNORM_DEVICE void SumWarps(int64_t offset, int team, C* a, C* b) {
  const device::Shared<C> shared(offset);
  const int lane = device::Thread() % device::kWarp;
  const int warp = device::Thread() / device::kWarp;
  const int first = team == 0 ? 0 : warp & ~(team - 1);
  const int end = team == 0 ? device::Threads() / device::kWarp : first + team;
  if (lane == 0) {
    shared.Set(2 * warp, *a);
    shared.Set(2 * warp + 1, *b);
  }
  device::SyncBlock();
  const bool reads = first + lane < end;
  *a = LaneSum(reads ? shared.Get(2 * (first + lane)) : C(0), device::kWarp);
  *b = LaneSum(reads ? shared.Get(2 * (first + lane) + 1) : C(0), device::kWarp);
}

// Adds up the values of all threads of a block. Every thread gets the sums. Uses the
// same shared memory as SumWarps, from offset 0.
template <class C>
FUSEDNORM_DEVICE void SumBlock(C* a, C* b) {
  *a = LaneSum(*a, device::kWarp);
  *b = LaneSum(*b, device::kWarp);
  SumWarps(0, 0, a, b);
}

}  // namespace cuda
}  // namespace fusednorm
