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

}  // namespace cuda
}  // namespace fusednorm
