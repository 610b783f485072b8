// The place of a thread within a set and a slab of the set's rows.
#pragma once

#include "cuda/kernels/common/args.h"
#include "cuda/kernels/common/device.cuh"
#include "cuda/kernels/lines/geometry.h"

namespace fusednorm {
namespace cuda {

// A set is one tile of the line, of one outer. The statistics of all its groups are
// joined at the same time.
struct LineSet {
  int64_t outer, tile;
  int64_t first_lane;  // first lane of the tile, in the line
  int lanes;           // lanes of the tile, if it is not cut into parts
  int groups;
  int64_t first_group;  // number among all groups
  int64_t first_param;  // first parameter of the sample

  FUSEDNORM_DEVICE LineSet(const LinesGeometry& g, int64_t set)
      : LineSet(g, g.tiles.Divide(set), g.tiles.Remainder(set)) {}
  FUSEDNORM_DEVICE LineSet(const LinesGeometry& g, int64_t outer, int64_t tile)
      : outer(outer), tile(tile) {
    first_lane = tile * g.tile_lanes;
    const int64_t left = g.line - first_lane;
    const int64_t of_tile = left < g.tile_lanes ? left : g.tile_lanes;
    lanes = static_cast<int>(of_tile);
    const int64_t groups_left = g.groups - tile * g.tile_groups;
    groups =
        static_cast<int>(groups_left < g.tile_groups ? groups_left : g.tile_groups);
    first_group = outer * g.groups + tile * g.tile_groups;
    first_param = g.sample.Divide(outer) * g.params;
  }
};

// A thread's accesses to the rows [begin, end) of one part of a set. There are `count`
// of them, at `at`, `at + step` and so on in the tensor.
template <int kWidth>
struct LinePlace {
  int row, column;     // place among the block's threads
  int lane;            // the part's lane that the thread's first element is
  int lanes;           // lanes of the part
  int64_t first_lane;  // first lane of the part, in the line
  int64_t first_row;   // the thread's first row
  int count;
  int rounds;  // the most accesses that a thread of the block has
  int64_t at, step;

  FUSEDNORM_DEVICE LinePlace(const LinesGeometry& g, const LineSet& set, int part,
                             int64_t begin, int64_t end) {
    const int thread = device::Thread();
    row = g.thread_columns.Divide(thread);
    column = thread - row * g.thread_columns.divisor();
    lane = column * kWidth;
    first_lane = set.first_lane + part * g.part_lanes;
    const int64_t left = set.first_lane + set.lanes - first_lane;
    lanes = static_cast<int>(left < g.part_lanes ? left : g.part_lanes);
    first_row = begin + row;
    step = g.thread_rows.divisor() * g.line;
    at = (set.outer * g.rows + first_row) * g.line + first_lane + lane;
    const auto accesses = [&](int64_t of_rows) {
      return g.thread_rows.Divide(static_cast<int>(of_rows) + g.thread_rows.divisor() -
                                  1);
    };
    rounds = accesses(end - begin);
    const bool on = row < g.thread_rows.divisor() && lane < lanes && begin + row < end;
    count = on ? accesses(end - begin - row) : 0;
  }
};

// The number of lanes of one copy of the line.
FUSEDNORM_DEVICE int64_t LanesOfCopy(const LinesGeometry& g) {
  return g.copies > 1 ? g.copy_lanes.divisor() : g.line;
}
// The lane of the first copy that has the same group and parameters as `lane`.
FUSEDNORM_DEVICE int LaneOfCopy(const LinesGeometry& g, int lane) {
  return g.copies > 1 ? g.copy_lanes.Remainder(lane) : lane;
}
// The number of a lane's group within its tile.
FUSEDNORM_DEVICE int GroupOfLane(const LinesGeometry& g, int lane) {
  if (g.tile_groups == 1) return 0;
  return g.columns ? lane : g.group_lanes.Divide(LaneOfCopy(g, lane));
}
// The index of gamma and beta of a lane, where `first_lane` is the line's lane at which
// the lane's part begins. Not for columns.
FUSEDNORM_DEVICE int64_t ParamOfLane(const LinesGeometry& g, const LineSet& set,
                                     int64_t first_lane, int lane) {
  const int64_t at = first_lane + LaneOfCopy(g, lane);
  return set.first_param + (g.q.divisor() == 1 ? at : g.q.Divide(at));
}

// The index of the partial sum of `unit`, where each outer has `units` units. The
// partial sums of all samples are next to each other, as the samples' parameters are in
// dgamma.
FUSEDNORM_DEVICE int64_t UnitOfParams(const LinesGeometry& g, int64_t outer,
                                      int64_t units, int64_t unit) {
  const int64_t sample = g.sample.Divide(outer);
  const int64_t before = outer - sample * g.sample.divisor();
  return (before * units + unit) * g.samples + sample;
}

}  // namespace cuda
}  // namespace fusednorm
