// A team is the threads that share a row: lanes of a warp, or a block. Every thread of
// a team gets the same bits of a sum. The order of additions depends on the team's size
// alone.
#pragma once

#include "cuda/kernels/common/device.cuh"
#include "cuda/kernels/common/shared_layout.h"
#include "cuda/kernels/rows/geometry.h"

namespace fusednorm {
namespace cuda {

// Adds up the values of `lanes` neighbouring lanes, a power of two up to kMost. All
// lanes of the warp must call. Each step that a small team does not take costs one
// branch.
template <int kMost, int kCount, class C>
FUSEDNORM_DEVICE void SumLanes(int lanes, C (&values)[kCount]) {
#pragma unroll
  for (int mask = 1; mask < kMost; mask *= 2) {
    if (mask >= lanes) break;
#pragma unroll
    for (int i = 0; i < kCount; ++i) {
      values[i] += device::ShuffleXor(values[i], mask);
    }
  }
}

// kMostWarps is the most warps of a block, a power of two.
template <class C, bool kBlock, int kMostWarps>
class RowTeam;

template <class C, int kMostWarps>
class RowTeam<C, false, kMostWarps> {
 public:
  FUSEDNORM_DEVICE explicit RowTeam(const RowsGeometry& geometry)
      : size_(geometry.team),
        teams_(geometry.teams),
        team_(device::Thread() >> geometry.team_shift) {}

  FUSEDNORM_DEVICE int size() const { return size_; }
  FUSEDNORM_DEVICE int index() const { return device::Thread() & (size_ - 1); }
  // The number of teams of a block, and this thread's team among them.
  FUSEDNORM_DEVICE int teams() const { return teams_; }
  FUSEDNORM_DEVICE int team() const { return team_; }

  // The value of the team's first thread.
  FUSEDNORM_DEVICE C First(C value) const {
    return device::ShuffleFrom(value, device::Thread() % device::kWarp - index());
  }
  template <int kCount>
  FUSEDNORM_DEVICE void Sum(C (&values)[kCount]) {
    SumLanes<device::kWarp>(size_, values);
  }

 private:
  const int size_, teams_, team_;
};

// Uses RowTeamBytes of shared memory, from its start.
template <class C, int kMostWarps>
class RowTeam<C, true, kMostWarps> {
 public:
  FUSEDNORM_DEVICE explicit RowTeam(const RowsGeometry& geometry)
      : shared_(0), warps_(geometry.warps) {}

  FUSEDNORM_DEVICE int size() const { return device::Threads(); }
  FUSEDNORM_DEVICE int index() const { return device::Thread(); }
  FUSEDNORM_DEVICE int teams() const { return 1; }
  FUSEDNORM_DEVICE int team() const { return 0; }

  // One barrier for each sum, because successive sums use the two halves of the shared
  // memory in turn.
  template <int kCount>
  FUSEDNORM_DEVICE void Sum(C (&values)[kCount]) {
    static_assert(kCount <= kRowTeamNumbers && kMostWarps <= kRowTeamWarps,
                  "the shared memory of a sum");
    const int warp = device::Thread() / device::kWarp;
    const int slot = half_ * (kMostWarps * kRowTeamNumbers);
    half_ ^= 1;
    SumLanes<device::kWarp>(device::kWarp, values);
    if (device::Thread() % device::kWarp == 0) {
#pragma unroll
      for (int i = 0; i < kCount; ++i) {
        shared_.Set(slot + i * kMostWarps + warp, values[i]);
      }
    }
    device::SyncBlock();
    // Lanes past the block's warps read the numbers of the first warps again. The
    // numbers of warps that the block does not have count as zeros.
    const int other = device::Thread() & (warps_ - 1);
    const bool exists = other < device::Threads() / device::kWarp;
#pragma unroll
    for (int i = 0; i < kCount; ++i) {
      values[i] = exists ? shared_.Get(slot + i * kMostWarps + other) : C(0);
    }
    SumLanes<kMostWarps>(warps_, values);
  }

 private:
  const device::Shared<C> shared_;
  const int warps_;
  int half_ = 0;
};

}  // namespace cuda
}  // namespace fusednorm
