// Tiles: some lanes of a line, all the way down the rows of a slice, and sums over
// their threads. Neighbouring lanes of a line are neighbouring threads, so that every
// access is a full stretch of memory, and a thread keeps to its few lanes.
#pragma once

#include "cuda/kernels/common/device.cuh"
#include "cuda/kernels/common/moments.cuh"
#include "cuda/kernels/common/team.cuh"
#include "cuda/kernels/second_order/geometry.h"

namespace fusednorm {
namespace cuda {
namespace second_order {

// Which tile a block has, and which of its elements a thread has. A tile has several
// groups, or a part of a wide one.
template <int kWidth>
struct Tile {
  int64_t slot;  // of the blocks that share `outer`
  int64_t slice;
  int64_t lane_block;
  int64_t first_lane, first_group;  // in the line
  int64_t row_begin, row_end;
  int lanes;  // of this tile: the last of a line may be narrower
  int groups;
  int group_lanes;  // of a group in this tile
  int lane;         // the thread's first, in the tile
  int thread_row;
  int thread_rows;
  bool active;  // the thread has lanes

  FUSEDNORM_DEVICE explicit Tile(const SecondOrderGeometry& geometry) {
    const int64_t unit = geometry.slices.Divide(device::Block());
    slice = device::Block() - unit * geometry.slices.divisor();
    slot = geometry.lane_blocks.Divide(unit);
    lane_block = unit - slot * geometry.lane_blocks.divisor();
    const int64_t slab = geometry.parts.Divide(slice);
    const int64_t part = slice - slab * geometry.parts.divisor();
    const bool whole_groups = geometry.parts.divisor() == 1;
    int64_t end;
    if (whole_groups) {
      first_lane = lane_block * geometry.lanes;
      // All tiles but the last of a line have the same number of groups.
      first_group =
          lane_block * (geometry.lanes / static_cast<int>(geometry.group_lanes));
      end = geometry.line;
    } else {
      first_lane = lane_block * geometry.group_lanes + part * geometry.lanes;
      first_group = lane_block;
      end = (lane_block + 1) * geometry.group_lanes;
    }
    lanes = end - first_lane < geometry.lanes ? static_cast<int>(end - first_lane)
                                              : geometry.lanes;
    group_lanes = whole_groups ? static_cast<int>(geometry.group_lanes) : lanes;
    groups = lanes / group_lanes;
    row_begin = slab * geometry.slab_rows;
    row_end = row_begin + geometry.slab_rows < geometry.rows
                  ? row_begin + geometry.slab_rows
                  : geometry.rows;

    const int threads = (geometry.lanes + kWidth - 1) / kWidth;
    thread_rows = device::Threads() / threads;
    thread_row = device::Thread() / threads;
    lane = (device::Thread() - thread_row * threads) * kWidth;
    active = thread_row < thread_rows && lane < lanes;
  }

  // Of the thread's access to a row.
  FUSEDNORM_DEVICE int64_t Offset(const SecondOrderGeometry& geometry, int64_t outer,
                                  int64_t row) const {
    return (outer * geometry.rows + row) * geometry.line + first_lane + lane;
  }
  // The place of a group of this tile among all groups.
  FUSEDNORM_DEVICE int64_t Group(const SecondOrderGeometry& geometry, int64_t outer,
                                 int group) const {
    return outer * geometry.groups.divisor() + first_group + group;
  }
  // Lanes of a warp, as many as there is work for, that share each group.
  FUSEDNORM_DEVICE int TeamFor(int64_t work) const {
    int team = device::kWarp;
    while (team > 1 && (team / 2 >= work || team * groups > device::Threads())) {
      team /= 2;
    }
    return team;
  }
};

// Sums of two numbers, a and b, which each thread has of its lanes.
template <class C>
class TileSums {
 public:
  // Rows of threads that are added up one after the other, before the sums of so many
  // are added up with care. A chain over all 256 would lose more than the mean's bound
  // allows: see tests/support/bounds.py.
  static constexpr int kRowsOfSum = 4;

  FUSEDNORM_DEVICE TileSums(int lanes, const TileLayout& layout)
      : lanes_(lanes), sums_(0), lane_sums_(layout.lane_sums * sizeof(C)) {}

  // Over the rows of threads: calls on_lane(lane, a, b) in one thread a lane.
  template <int kWidth, class OnLane>
  FUSEDNORM_DEVICE void OfLanes(const Tile<kWidth>& tile, const C (&a)[kWidth],
                                const C (&b)[kWidth], const OnLane& on_lane) const {
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
      on_lane(lane, a_sum.sum, b_sum.sum);
    }
  }

  // Then, with weight(lane), over the lanes of each group: calls on_group(group, a, b)
  // in one thread a group.
  template <int kWidth, class Weight, class OnGroup>
  FUSEDNORM_DEVICE void OfGroups(const Tile<kWidth>& tile, const C (&a)[kWidth],
                                 const C (&b)[kWidth], const Weight& weight,
                                 const OnGroup& on_group) const {
    OfLanes(tile, a, b, [&](int lane, C first, C second) {
      const C by = weight(lane);
      lane_sums_.Set(2 * lane, by * first);
      lane_sums_.Set(2 * lane + 1, by * second);
    });
    device::SyncBlock();
    const int team = tile.TeamFor(tile.group_lanes);
    const int member = device::Thread() % team;
    const int teams = device::Threads() / team;
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
      if (group < tile.groups && member == 0) on_group(group, first, second);
    }
    // The next sums write lane_sums_ behind a barrier of their own.
  }

 private:
  // Neighbouring threads write neighbouring words, whatever the width.
  template <int kWidth>
  FUSEDNORM_DEVICE int At(int row, int lane) const {
    return row * lanes_ + lane % kWidth * (lanes_ / kWidth) + lane / kWidth;
  }

  const int lanes_;
  const device::Shared<C> sums_;       // [2, thread_rows, lanes]
  const device::Shared<C> lane_sums_;  // [lanes, 2]
};

}  // namespace second_order
}  // namespace cuda
}  // namespace fusednorm
