// The sizes of what kernels keep in shared memory and leave in the workspace. Kernels
// use this memory, and the plan asks for it.
#pragma once

#include <cstdint>

#include "core/portability.h"

namespace fusednorm {
namespace cuda {

constexpr int kMaxWarps = 32;
constexpr int kMomentsNumbers = 4;  // numbers of one Moments (moments.cuh)

constexpr int kWarpSums = 2 * kMaxWarps;  // for SumWarps and SumBlock (team.cuh)

// The memory of a RowTeam that is a block: up to two numbers for each warp, in two
// copies, so that each sum needs only one barrier.
constexpr int kRowTeamWarps = 16;
constexpr int kRowTeamNumbers = 2;
FUSEDNORM_INLINE constexpr int64_t RowTeamBytes(int64_t compute_bytes) {
  return 2 * kRowTeamWarps * kRowTeamNumbers * compute_bytes;
}

}  // namespace cuda
}  // namespace fusednorm
