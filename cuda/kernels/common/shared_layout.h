// The sizes of what kernels keep in shared memory, and of what they leave in the
// workspace: for the kernels, which use it, and the plan, which asks for it.
#pragma once

#include <cstdint>

#include "core/portability.h"

namespace fusednorm {
namespace cuda {

constexpr int kMaxWarps = 32;
constexpr int kMomentsNumbers = 4;  // of each partial moments (moments.cuh)

// BlockTeam: two sums of each warp and of the block, twice, so that one barrier a sum
// is enough.
constexpr int kTeamSlot = 2 * (kMaxWarps + 1);
FUSEDNORM_INLINE constexpr int64_t BlockTeamBytes(int64_t compute_bytes) {
  return (2 * kTeamSlot * compute_bytes + 15) / 16 * 16;
}

// RowTeam of a block: up to two numbers of each warp, twice, so that one barrier a sum
// is enough.
constexpr int kRowTeamWarps = 16;
constexpr int kRowTeamNumbers = 2;
FUSEDNORM_INLINE constexpr int64_t RowTeamBytes(int64_t compute_bytes) {
  return 2 * kRowTeamWarps * kRowTeamNumbers * compute_bytes;
}

// TileShared: offsets in numbers of the compute type.
struct TileLayout {
  int64_t lane_sums, group_sums, results, param_sums, end;
  FUSEDNORM_INLINE constexpr TileLayout(int64_t lanes, int64_t thread_rows)
      : lane_sums(2 * lanes * thread_rows),
        group_sums(lane_sums + 2 * lanes),
        results(group_sums + 4 * lanes),
        param_sums(results + 2 * lanes),
        end(param_sums + 2 * lanes) {}
};
FUSEDNORM_INLINE constexpr int64_t TileBytes(int64_t compute_bytes, int64_t lanes,
                                             int64_t thread_rows) {
  return (TileLayout(lanes, thread_rows).end * compute_bytes + 15) / 16 * 16;
}

}  // namespace cuda
}  // namespace fusednorm
