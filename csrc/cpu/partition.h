// How the CPU kernels cut a problem into tasks: a pure function of the problem, never
// of the number of threads, so that results do not depend on it.
#pragma once

#include <cstdint>

#include "core/problem.h"

namespace fusednorm {
namespace cpu {

// The ways to walk x[N, P, G, K, Q]:
// kRows: vectors run along one group's contiguous K*Q elements (P chunks of them).
// kLanes: vectors run across a contiguous line that holds many groups, and sums go down
//   the rows: channels_last groups too narrow for kRows, and every problem whose Q is
//   not reduced (one group per lane).
// kTiles: vectors run down as many short rows as they have lanes. x[N, 1, 1, K, 1]
// only.
enum class Walk { kRows, kLanes, kTiles };

constexpr int64_t kMaxTileColumns = 64;

// Lanes that one task keeps accumulators for. Many, so that most lines are read as a
// whole: the processor fetches ahead only what lies on its way.
constexpr int64_t kMaxLanes = 2048;
// Sums run in the compute type over at most this many rows, then go to double.
constexpr int64_t kRowsPerFlush = 64;

struct Partition {
  Walk walk = Walk::kRows;
  // There is a mask, or parameters differ from position to position: kRows and kLanes
  // are walked by position_rows.h and position_lanes.h.
  bool of_positions = false;

  // Units are (outer, inner) pairs; a unit's groups are computed together. Units with
  // the same `inner` share parameters, different ones have none in common (inner is 1
  // where all units share all).
  int64_t outer = 1;
  int64_t inner = 1;
  // A unit's rows (kLanes) or positions (kRows) are cut into this many tasks.
  int64_t slices = 1;
  // Cut units are computed so many at a time, so that a phase finds in the last cache
  // what the one before has read.
  int64_t wave = 1;
  // Backward: dz is kept from the first pass to the second, instead of computing the
  // derivative of the activation twice: in dx, or where that would round it, in memory
  // of its own.
  bool keeps_dz = false;
  // Results are written past the caches, which they would not fit.
  bool streams = false;
  // Uncut units are dealt out in this many blocks: forward of units, backward of outer
  // indices, each block summed into one set of dgamma/dbeta partials.
  int64_t blocks = 1;
  // Backward: every slice has parameters of its own, so one set serves all slices, and
  // a task takes its slice of all outer units.
  bool slices_own_params = false;

  // kLanes: a line of `line` elements, cut into `lane_blocks` of at most `lanes`;
  // `rows` rows of `stride`. Short lines are folded: one row holds several of them, the
  // last row may hold fewer.
  int64_t line = 1;
  int64_t lanes = 1;
  int64_t lane_blocks = 1;
  int64_t rows = 1;
  int64_t stride = 1;

  FUSEDNORM_INLINE int64_t units() const { return outer * inner; }
  // Groups of one unit, at most.
  int64_t max_groups = 1;
  // Elements of one unit, for the thread pool's cost model.
  int64_t unit_elements = 0;
  // Sets of dgamma/dbeta partials.
  int64_t sets = 0;
  int64_t workspace_bytes = 0;
};

Partition PartitionForward(const NormProblem& problem);
Partition PartitionBackward(const NormProblem& problem);
Partition PartitionSecondOrder(const NormProblem& problem);

// One set of partial sums of so many gradients of each parameter: in double, then in
// the compute type.
FUSEDNORM_INLINE int64_t SetBytes(const NormProblem& problem, int64_t gradients) {
  const int64_t sums = gradients * problem.num_params();
  const int64_t bytes =
      sums * static_cast<int64_t>(sizeof(double) + SizeOf(ComputeType(problem.data)));
  return (bytes + 7) / 8 * 8;
}

}  // namespace cpu
}  // namespace fusednorm
