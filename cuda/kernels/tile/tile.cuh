// Tiles: groups that lie across the rows of x[outer, rows, line]. Neighbouring lanes of
// a line are neighbouring threads, so that every access is a full stretch of memory,
// and a thread keeps to its few lanes all the way down the rows.
//
// Interleaved groups (channels_last): a group is `group_lanes` lanes wide, and a tile
// holds several groups, or a part of a wide one. Columns (one axis in the middle is
// reduced): a group is one lane wide.
#pragma once

#include "cuda/kernels/common/args.h"
#include "cuda/kernels/common/device.cuh"
#include "cuda/kernels/common/held_row.cuh"
#include "cuda/kernels/common/moments.cuh"
#include "cuda/kernels/common/team.cuh"

namespace fusednorm {
namespace cuda {

// Which tile a block has, and which of its elements a thread has. Consecutive blocks
// are the parts and slabs of the same groups: of one cluster, if there are clusters.
template <int kWidth>
struct Tile {
  int64_t slot;  // of the blocks that share `outer`
  int64_t lane_block;
  int64_t part;
  int64_t first_lane;   // in the line
  int64_t first_group;  // in the line
  int64_t row_begin, row_end;
  int64_t slab;
  int lanes;  // of this tile: the last of a line may be narrower
  int groups;
  int group_lanes;  // of a group in this tile
  int lane;         // the thread's first, in the tile
  int thread_row;
  int thread_rows;
  bool active;  // the thread has lanes

  FUSEDNORM_DEVICE Tile(const Tiles& tiles, int64_t block) {
    const int64_t slab_block = tiles.parts.Divide(block);
    part = block - slab_block * tiles.parts.divisor();
    const int64_t unit = tiles.slabs.Divide(slab_block);
    slab = slab_block - unit * tiles.slabs.divisor();
    slot = tiles.lane_blocks.Divide(unit);
    lane_block = unit - slot * tiles.lane_blocks.divisor();
    const bool whole_groups = tiles.parts.divisor() == 1;
    int64_t end;
    if (whole_groups) {
      first_lane = lane_block * tiles.lanes;
      // All tiles but the last of a line have the same number of groups.
      first_group = lane_block * (tiles.lanes / static_cast<int>(tiles.group_lanes));
      end = tiles.line;
    } else {
      first_lane = lane_block * tiles.group_lanes + part * tiles.lanes;
      first_group = lane_block;
      end = (lane_block + 1) * tiles.group_lanes;
    }
    lanes = end - first_lane < tiles.lanes ? static_cast<int>(end - first_lane)
                                           : tiles.lanes;
    group_lanes = whole_groups ? static_cast<int>(tiles.group_lanes) : lanes;
    groups = lanes / group_lanes;
    row_begin =
        slab * tiles.slab_rows < tiles.rows ? slab * tiles.slab_rows : tiles.rows;
    row_end = row_begin + SlabRows(tiles, slab);

    const int threads = (tiles.lanes + kWidth - 1) / kWidth;
    thread_rows = device::Threads() / threads;
    thread_row = device::Thread() / threads;
    lane = (device::Thread() - thread_row * threads) * kWidth;
    active = thread_row < thread_rows && lane < lanes;
  }

  FUSEDNORM_DEVICE static int64_t SlabRows(const Tiles& tiles, int64_t slab) {
    const int64_t left = tiles.rows - slab * tiles.slab_rows;
    return left < 0 ? 0 : left < tiles.slab_rows ? left : tiles.slab_rows;
  }
  FUSEDNORM_DEVICE int GroupOf(int tile_lane) const { return tile_lane / group_lanes; }
  // Elements of a group in this tile.
  FUSEDNORM_DEVICE int64_t GroupCount() const {
    return (row_end - row_begin) * group_lanes;
  }
  // Of the thread's access to a row.
  FUSEDNORM_DEVICE int64_t Offset(const Tiles& tiles, int64_t outer,
                                  int64_t row) const {
    return (outer * tiles.rows + row) * tiles.line + first_lane + lane;
  }
  // Of the first element of a group's part in this tile, in the row.
  FUSEDNORM_DEVICE int64_t GroupOffset(const Tiles& tiles, int64_t outer, int64_t row,
                                       int group) const {
    return (outer * tiles.rows + row) * tiles.line + first_lane +
           static_cast<int64_t>(group) * group_lanes;
  }
  // The group's place among the statistics.
  FUSEDNORM_DEVICE int64_t Statistic(const Tiles& tiles, int64_t outer,
                                     int group) const {
    return outer * tiles.groups + first_group + group;
  }
  FUSEDNORM_DEVICE int Rounds() const {
    return (static_cast<int>(row_end - row_begin) + thread_rows - 1) / thread_rows;
  }

  // function(row, round) for the thread's rows.
  template <class Function>
  FUSEDNORM_DEVICE void ForEachRow(const Function& function) const {
    if (!active) return;
    int round = 0;
#pragma unroll 4
    for (int64_t row = row_begin + thread_row; row < row_end; row += thread_rows) {
      function(row, round++);
    }
  }
};

// The shared memory of a tile: numbers of the compute type, then the slots of what is
// held.
template <class C>
class TileShared {
 public:
  // Rows of threads that are added up one after the other, before the sums of so many
  // are added up with care. A chain over all 256 would lose more than the mean's bound
  // allows: see tests/bounds.py.
  static constexpr int kRowsOfSum = 4;

  FUSEDNORM_DEVICE TileShared(int lanes, int thread_rows)
      : TileShared(lanes, thread_rows, TileLayout(lanes, thread_rows)) {}

  FUSEDNORM_DEVICE int64_t held() const { return held_; }
  // Two numbers a group, of all the tile's groups.
  FUSEDNORM_DEVICE C Result(int group, int which) const {
    return results_.Get(2 * group + which);
  }
  FUSEDNORM_DEVICE void SetResult(int group, C first, C second) const {
    results_.Set(2 * group, first);
    results_.Set(2 * group + 1, second);
  }
  FUSEDNORM_DEVICE const device::Shared<C>& param_sums() const { return param_sums_; }

  // Adds up a and b, arrays over a thread's lanes, over the rows of threads; calls
  // on_lane(lane, a, b) in one thread a lane; adds up weight(lane) * a and b over the
  // lanes of each group and over the cluster; calls on_group(group, a, b) in one thread
  // a group of each block, which may SetResult; then all threads may read the results.
  template <int kWidth, class OnLane, class Weight, class OnGroup>
  FUSEDNORM_DEVICE void Reduce(const Tile<kWidth>& tile, int cluster,
                               const C (&a)[kWidth], const C (&b)[kWidth],
                               const OnLane& on_lane, const Weight& weight,
                               const OnGroup& on_group) {
    if (tile.active) {
#pragma unroll
      for (int e = 0; e < kWidth; ++e) {
        const int at = At<kWidth>(tile.thread_row, tile.lane + e);
        sums_.Set(at, a[e]);
        sums_.Set(tile.thread_rows * lanes_ + at, b[e]);
      }
    }
    device::SyncBlock();
    for (int lane = device::Thread(); lane < tile.lanes; lane += device::Threads()) {
      LongSum<C> a_sum, b_sum;
      for (int begin = 0; begin < tile.thread_rows; begin += kRowsOfSum) {
        const int left = tile.thread_rows - begin;
        const int end = begin + (left < kRowsOfSum ? left : kRowsOfSum);
        C a_of_rows = 0, b_of_rows = 0;
        for (int row = begin; row < end; ++row) {
          a_of_rows += sums_.Get(At<kWidth>(row, lane));
          b_of_rows += sums_.Get(tile.thread_rows * lanes_ + At<kWidth>(row, lane));
        }
        a_sum.Add(a_of_rows);
        b_sum.Add(b_of_rows);
      }
      const C first = a_sum.sum, second = b_sum.sum;
      on_lane(lane, first, second);
      const C by = weight(lane);
      lane_sums_.Set(2 * lane, by * first);
      lane_sums_.Set(2 * lane + 1, by * second);
    }
    device::SyncBlock();
    int team = device::kWarp;
    while (team > 1 &&
           (team / 2 >= tile.group_lanes || team * tile.groups > device::Threads())) {
      team /= 2;
    }
    const int member = device::Thread() % team;
    const int teams = device::Threads() / team;
    const int groups_before = parity_ * 2 * lanes_;
    for (int round = 0; round < tile.groups; round += teams) {
      const int group = round + device::Thread() / team;
      C first = 0, second = 0;
      if (group < tile.groups) {
        for (int i = member; i < tile.group_lanes; i += team) {
          const int lane = group * tile.group_lanes + i;
          first += lane_sums_.Get(2 * lane);
          second += lane_sums_.Get(2 * lane + 1);
        }
      }
      first = LaneSum(first, team);
      second = LaneSum(second, team);
      if (group >= tile.groups || member != 0) continue;
      if (cluster == 1) {
        on_group(group, first, second);
      } else {
        group_sums_.Set(groups_before + 2 * group, first);
        group_sums_.Set(groups_before + 2 * group + 1, second);
      }
    }
    if (cluster > 1) {
      device::SyncCluster();
      for (int group = device::Thread(); group < tile.groups;
           group += device::Threads()) {
        C first = 0, second = 0;
        for (int rank = 0; rank < cluster; ++rank) {
          first += group_sums_.GetFrom(rank, groups_before + 2 * group);
          second += group_sums_.GetFrom(rank, groups_before + 2 * group + 1);
        }
        on_group(group, first, second);
      }
      // So that the next sums need not wait until all have read these.
      parity_ ^= 1;
    }
    device::SyncBlock();
  }

 private:
  FUSEDNORM_DEVICE TileShared(int lanes, int thread_rows, const TileLayout& layout)
      : lanes_(lanes),
        sums_(0),
        lane_sums_(layout.lane_sums * sizeof(C)),
        group_sums_(layout.group_sums * sizeof(C)),
        results_(layout.results * sizeof(C)),
        param_sums_(layout.param_sums * sizeof(C)),
        held_(TileBytes(sizeof(C), lanes, thread_rows)) {}

  // Neighbouring threads write neighbouring words, whatever the width.
  template <int kWidth>
  FUSEDNORM_DEVICE int At(int row, int lane) const {
    return row * lanes_ + lane % kWidth * (lanes_ / kWidth) + lane / kWidth;
  }

  const int lanes_;
  const device::Shared<C> sums_;        // [2, thread_rows, lanes]
  const device::Shared<C> lane_sums_;   // [lanes, 2]
  const device::Shared<C> group_sums_;  // [2, lanes, 2], read by the cluster
  const device::Shared<C> results_;     // [lanes, 2]
  const device::Shared<C> param_sums_;  // [lanes, 2]
  const int64_t held_;
  int parity_ = 0;
};

// What on_lane and weight are where nothing is to do.
struct NoLane {
  template <class C>
  FUSEDNORM_DEVICE void operator()(int, C, C) const {}
};
template <class C>
struct NoWeight {
  FUSEDNORM_DEVICE C operator()(int) const { return 1; }
};

// The two results of a thread's lanes.
template <class C, int kWidth>
FUSEDNORM_DEVICE void LaneResults(const TileShared<C>& shared, const Tile<kWidth>& tile,
                                  C (&first)[kWidth], C (&second)[kWidth]) {
#pragma unroll
  for (int e = 0; e < kWidth; ++e) {
    first[e] = second[e] = 0;
    if (!tile.active) continue;
    const int group = tile.GroupOf(tile.lane + e);
    first[e] = shared.Result(group, 0);
    second[e] = shared.Result(group, 1);
  }
}

// Joins what the tiles of a group have left in args' partial sums: calls
// function(index of the partial) for those of `group` that the caller takes, member of
// a team of lanes.
template <int kWidth, class Function>
FUSEDNORM_DEVICE void ForEachPartial(const Tiles& tiles, const Tile<kWidth>& tile,
                                     int64_t outer, int group, int member, int team,
                                     const Function& function) {
  const int64_t partials = tiles.slabs.divisor() * tiles.parts.divisor();
  for (int64_t i = member; i < partials; i += team) {
    function((outer * partials + i) * tiles.groups + tile.first_group + group);
  }
}

// Where a tile's own partial sum of a group belongs.
template <int kWidth>
FUSEDNORM_DEVICE int64_t PartialIndex(const Tiles& tiles, const Tile<kWidth>& tile,
                                      int64_t outer, int group) {
  return ((outer * tiles.slabs.divisor() + tile.slab) * tiles.parts.divisor() +
          tile.part) *
             tiles.groups +
         tile.first_group + group;
}

// Lanes that join one group's partial sums.
template <int kWidth>
FUSEDNORM_DEVICE int JoiningTeam(const Tile<kWidth>& tile) {
  int team = device::kWarp;
  while (team > 1 && team * tile.groups > device::Threads()) team /= 2;
  return team;
}

}  // namespace cuda
}  // namespace fusednorm
