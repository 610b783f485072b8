// The threads that share a row, and the sums over them. Every thread of a team gets the
// same bits, in an order that depends on the team's size alone.
#pragma once

#include "cuda/kernels/common/args.h"
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
// sums. Uses shared memory of 2 * kMaxWarps numbers, from `offset` on, and has one
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

// A block, or a cluster of them. Uses the first kSharedBytes of shared memory.
template <class C>
class BlockTeam {
 public:
  static constexpr int64_t kSharedBytes = BlockTeamBytes(sizeof(C));

  FUSEDNORM_DEVICE explicit BlockTeam(const NormArgs&)
      : shared_(0), cluster_(device::ClusterBlocks()) {}

  FUSEDNORM_DEVICE int size() const { return device::Threads() * cluster_; }
  FUSEDNORM_DEVICE int index() const {
    return device::ClusterRank() * device::Threads() + device::Thread();
  }
  FUSEDNORM_DEVICE int teams() const { return 1; }
  FUSEDNORM_DEVICE int team() const { return 0; }
  FUSEDNORM_DEVICE int64_t block() const { return device::Block() / cluster_; }
  FUSEDNORM_DEVICE int64_t blocks() const { return device::Blocks() / cluster_; }

  FUSEDNORM_DEVICE void Sum(C* a) {
    C none = 0;
    Sum(a, &none);
  }
  FUSEDNORM_DEVICE void Sum(C* a, C* b) {
    const int lane = device::Thread() % device::kWarp;
    const int warp = device::Thread() / device::kWarp;
    const int warps = device::Threads() / device::kWarp;
    const int slot = parity_ * kTeamSlot;
    parity_ ^= 1;
    *a = LaneSum(*a, device::kWarp);
    *b = LaneSum(*b, device::kWarp);
    if (lane == 0) {
      shared_.Set(slot + 2 * warp, *a);
      shared_.Set(slot + 2 * warp + 1, *b);
    }
    device::SyncBlock();
    *a = LaneSum(lane < warps ? shared_.Get(slot + 2 * lane) : C(0), device::kWarp);
    *b = LaneSum(lane < warps ? shared_.Get(slot + 2 * lane + 1) : C(0), device::kWarp);
    if (cluster_ == 1) return;
    if (device::Thread() == 0) {
      shared_.Set(slot + 2 * kMaxWarps, *a);
      shared_.Set(slot + 2 * kMaxWarps + 1, *b);
    }
    device::SyncCluster();
    const bool reads = lane < cluster_;
    *a = LaneSum(reads ? shared_.GetFrom(lane, slot + 2 * kMaxWarps) : C(0),
                 device::kWarp);
    *b = LaneSum(reads ? shared_.GetFrom(lane, slot + 2 * kMaxWarps + 1) : C(0),
                 device::kWarp);
  }
  // No block ends while another one reads from it.
  FUSEDNORM_DEVICE void Finish() {
    if (cluster_ > 1) device::SyncCluster();
  }

 private:
  const device::Shared<C> shared_;
  const int cluster_;
  int parity_ = 0;
};

}  // namespace cuda
}  // namespace fusednorm
