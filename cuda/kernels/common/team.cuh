// The threads that share a row, and the sums over them. Every thread of a team gets the
// same bits, in an order that depends on the team's size alone.
#pragma once

#include "cuda/kernels/common/device.cuh"
#include "cuda/kernels/common/shared_layout.h"

namespace fusednorm {
namespace cuda {

// Sums over `lanes` neighbouring lanes, a power of two. All lanes of the warp call.
template <class C>
FUSEDNORM_DEVICE C LaneSum(C value, int lanes) {
  for (int mask = lanes / 2; mask > 0; mask /= 2) {
    value += device::ShuffleXor(value, mask);
  }
  return value;
}

// Adds up what `team` neighbouring warps have, a power of two, each of their lanes the
// same; or, where `team` is 0, what all warps of the block have. Every thread gets the
// sums. Uses shared memory of kWarpSums numbers, from `offset` on, and has one barrier
// of the block.
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

// Adds up what all threads of a block have. Every thread gets the sums. Uses what
// SumWarps does, from the start of shared memory.
template <class C>
FUSEDNORM_DEVICE void SumBlock(C* a, C* b) {
  *a = LaneSum(*a, device::kWarp);
  *b = LaneSum(*b, device::kWarp);
  SumWarps(0, 0, a, b);
}

}  // namespace cuda
}  // namespace fusednorm
