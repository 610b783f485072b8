// How the CPU kernels cut a problem into tasks. This depends on the problem alone,
// never on the number of threads. The results therefore do not depend on threads
// either.
#pragma once

#include <cstdint>

#include "core/problem.h"

namespace fusednorm {
namespace cpu {

// The ways to walk x[N, P, G, K, Q]:
//   kRows: vectors run along one group's contiguous K * Q elements (P chunks of them).
//   kLanes: vectors run across a contiguous line that holds many groups, and sums go
//     down the rows. For channels_last groups that are too narrow for kRows, and for
//     every problem whose Q is not reduced (one group for each lane).
//   kTiles: vectors run down short rows, one row for each lane. For x[N, 1, 1, K, 1].
enum class Walk { kRows, kLanes, kTiles };

constexpr int64_t kMaxTileColumns = 64;

// Lanes for which one task keeps sums. They are many, so that most lines are read
// whole: the processor only fetches ahead what follows in memory.
constexpr int64_t kMaxLanes = 2048;
// Sums run over at most this many rows in the compute type, then go to double.
constexpr int64_t kRowsPerFlush = 64;

struct Partition {
  Walk walk = Walk::kRows;
  // There is a mask, or each position has its own parameters. position_rows.h and
  // position_lanes.h then do the walks kRows and kLanes.
  bool of_positions = false;

  // Units are pairs (outer, inner). The groups of a unit are computed together. Units
  // with the same `inner` share parameters, and units with different `inner` have none
  // in common. inner is 1 where all units share all parameters.
  int64_t outer = 1;
  int64_t inner = 1;
  // Each unit's rows (kLanes) or positions (kRows) are cut into this many tasks.
  int64_t slices = 1;
  // So many units that are cut into slices are computed at a time. A phase then finds
  // in the last cache what the phase before has read.
  int64_t wave = 1;
  // Backward keeps dz from the first pass for the second, to compute the derivative of
  // the activation only once. dz is kept in dx or, if dx would round it, in memory of
  // its own.
  bool keeps_dz = false;
  // Results are written past the caches, because they would not fit them.
  bool streams = false;
  // Units that are not cut are dealt out in this many blocks: in forward the units, in
  // backward the outer indices. Each block sums dgamma and dbeta into one set of
  // partials.
  int64_t blocks = 1;
  // In backward, each slice has parameters of its own. One set of partials then serves
  // all slices, and a task takes its slice of all outer units.
  bool slices_own_params = false;

  // Only with kLanes: lines have `line` elements and are cut into `lane_blocks` of at
  // most `lanes` lanes. There are `rows` rows, `stride` elements apart. Short lines are
  // folded: one row holds several lines, and the last row may hold fewer.
  int64_t line = 1;
  int64_t lanes = 1;
  int64_t lane_blocks = 1;
  int64_t rows = 1;
  int64_t stride = 1;

  FUSEDNORM_INLINE int64_t units() const { return outer * inner; }
  // The most groups of a unit.
  int64_t max_groups = 1;
  // The elements of a unit, for the thread pool's cost model.
  int64_t unit_elements = 0;
  // The number of sets of partial sums of dgamma and dbeta.
  int64_t sets = 0;
  int64_t workspace_bytes = 0;
};

Partition PartitionForward(const NormProblem& problem);
Partition PartitionBackward(const NormProblem& problem);
Partition PartitionSecondOrder(const NormProblem& problem);

// The bytes of one set of partial sums with `gradients` gradients of each parameter:
// first sums in double, then sums in the compute type.
FUSEDNORM_INLINE int64_t SetBytes(const NormProblem& problem, int64_t gradients) {
  const int64_t sums = gradients * problem.num_params();
  const int64_t bytes =
      sums * static_cast<int64_t>(sizeof(double) + SizeOf(ComputeType(problem.data)));
  return (bytes + 7) / 8 * 8;
}

}  // namespace cpu
}  // namespace fusednorm
