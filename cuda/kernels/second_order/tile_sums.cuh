// Tiles, and sums over their threads. A tile is some lanes of a line, in all rows of a
// slice. Neighbouring lanes of a line belong to neighbouring threads, so that each
// access of a warp reads contiguous memory. A thread keeps the same few lanes in all
// rows.
#pragma once

#include "cuda/kernels/common/device.cuh"
#include "cuda/kernels/common/moments.cuh"
#include "cuda/kernels/common/team.cuh"
#include "cuda/kernels/second_order/geometry.h"

namespace fusednorm {
namespace cuda {
namespace second_order {

// The tile of a block, and the elements of a thread in it. A tile has several groups,
// or a part of a wide group.
template <int kWidth>
struct Tile {
  int64_t slot;  // number among the blocks that share `outer`
  int64_t slice;
  int64_t lane_block;
  int64_t first_lane, first_group;  // in the line
  int64_t row_begin, row_end;
  int lanes;  // lanes of this tile; the last tile of a line may be narrower
  int groups;
  int group_lanes;  // lanes of a group in this tile
  int lane;         // the thread's first lane in the tile
  int thread_row;
  int thread_rows;
  bool active;  // false if the thread has no lane

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

  // The offset of the thread's access to a row.
  FUSEDNORM_DEVICE int64_t Offset(const SecondOrderGeometry& geometry, int64_t outer,
                                  int64_t row) const {
    return (outer * geometry.rows + row) * geometry.line + first_lane + lane;
  }
  // The number of a group of this tile among all groups.
  FUSEDNORM_DEVICE int64_t Group(const SecondOrderGeometry& geometry, int64_t outer,
                                 int group) const {
    return outer * geometry.groups.divisor() + first_group + group;
  }
  // The number of a warp's lanes that share each group; no more than `work` needs.
  FUSEDNORM_DEVICE int TeamFor(int64_t work) const {
    int team = device::kWarp;
    while (team > 1 && (team / 2 >= work || team * groups > device::Threads())) {
      team /= 2;
    }
    return team;
  }
};

// Sums of two numbers, a and b, of which each thread has one for each of its lanes.
template <class C>
class TileSums {
 public:
  // Rows of threads are added up in plain chains of so many rows, whose sums are added
  // up by LongSum. A plain chain over all 256 rows would lose more than the bound of
  // the mean allows (tests/support/bounds.py).
  static constexpr int kRowsOfSum = 4;

  FUSEDNORM_DEVICE TileSums(int lanes, const TileLayout& layout)
      : lanes_(lanes), sums_(0), lane_sums_(layout.lane_sums * sizeof(C)) {}

  // Adds up over the rows of threads. Calls on_lane(lane, a, b) in one thread for each
  // lane.
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

  // Adds up over the rows of threads, then over the lanes of each group with
  // weight(lane). Calls on_group(group, a, b) in one thread for each group.
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
    // No barrier here: the next sums have one before they write lane_sums_.
  }

 private:
  // Neighbouring threads write neighbouring words, whatever kWidth is.
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
