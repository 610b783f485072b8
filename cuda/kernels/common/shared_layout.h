// The sizes of what kernels keep in shared memory, and of what they leave in the
// workspace: for the kernels, which use it, and the plan, which asks for it.
#pragma once

#include <cstdint>

#include "core/portability.h"

namespace fusednorm {
namespace cuda {

constexpr int kMaxWarps = 32;
constexpr int kMomentsNumbers = 4;  // of each partial moments (moments.cuh)

constexpr int kWarpSums = 2 * kMaxWarps;  // SumWarps and SumBlock (team.cuh)

// RowTeam of a block: up to two numbers of each warp, twice, so that one barrier a sum
// is enough.
constexpr int kRowTeamWarps = 16;
constexpr int kRowTeamNumbers = 2;
FUSEDNORM_INLINE constexpr int64_t RowTeamBytes(int64_t compute_bytes) {
  return 2 * kRowTeamWarps * kRowTeamNumbers * compute_bytes;
}

}  // namespace cuda
}  // namespace fusednorm
