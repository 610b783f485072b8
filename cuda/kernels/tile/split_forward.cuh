// Forward of tiles that fit on no chip, or are too few to fill the device, or with a
// mask: moments first, y in a second kernel.
#pragma once

#include "cuda/kernels/common/moments.cuh"
#include "cuda/kernels/mask/mask.cuh"
#include "cuda/kernels/tile/affine.cuh"
#include "cuda/kernels/tile/forward.cuh"

namespace fusednorm {
namespace cuda {

// Takes the moments of lanes, each around an element of its own, for moments around a
// value of the group, which it leaves as the first result.
template <class C, int kWidth>
FUSEDNORM_DEVICE void CentreLanes(const Tile<kWidth>& tile, TileShared<C>& shared,
                                  C (&near)[kWidth], C (&mean)[kWidth],
                                  const C (&count)[kWidth]) {
  C sum[kWidth], parts[kWidth];
#pragma unroll
  for (int e = 0; e < kWidth; ++e) {
    Centre<C> of_lane;
    of_lane.Add({near[e], mean[e], C(0), count[e]});
    sum[e] = of_lane.sum;
    parts[e] = of_lane.parts;
  }
  shared.Reduce(tile, 1, sum, parts, NoLane(), NoWeight<C>(),
                [&](int group, C total, C total_parts) {
                  Centre<C> of_group;
                  of_group.sum = total;
                  of_group.parts = total_parts;
                  shared.SetResult(group, of_group.Value(), C(0));
                });
  C centre[kWidth];
  LaneResults(shared, tile, centre, parts);
#pragma unroll
  for (int e = 0; e < kWidth; ++e) {
    mean[e] = Around(centre[e], {near[e], mean[e], C(0), count[e]}).mean;
    near[e] = centre[e];
  }
}

// Moments of one tile: Welford's recurrence down the rows, each lane on its own. It
// runs on deviations from a value near the mean, so that it rounds numbers of the size
// of the standard deviation, not of the mean. Behind a mask that is the first element
// of the lane that is not hidden.
template <class T, int kWidth>
FUSEDNORM_KERNEL(256, 2)
SplitTileMoments(const ForwardArgs args) {
  typedef typename Number<T>::Compute C;
  typedef Pack<T, kWidth> P;
  const Tiles& tiles = args.tiles;
  const Tile<kWidth> tile(tiles, device::Block());
  TileShared<C> shared(tiles.lanes, tile.thread_rows);
  const int64_t outer = tile.slot;
  const auto load = [&](int64_t row) {
    const int64_t at = tile.Offset(tiles, outer, row);
    const P pack = P::LoadFrom(static_cast<const T*>(args.x) + at);
    if (args.residual == nullptr) return pack;
    return Sum<T, kWidth>(pack, P::LoadFrom(static_cast<const T*>(args.residual) + at));
  };
  C near[kWidth], mean[kWidth], squares[kWidth], count[kWidth];
#pragma unroll
  for (int e = 0; e < kWidth; ++e) near[e] = mean[e] = squares[e] = count[e] = 0;
  const bool masked = args.mask.positions != nullptr;
  if (args.centred && !masked) {
    // What the block reads first has a mean that is near that of the group, even if the
    // very first element is far from it.
    const auto origin_of = [&](int group) {
      return FirstElement<T>(args.x, args.residual,
                             tile.GroupOffset(tiles, outer, tile.row_begin, group));
    };
    const int64_t first_row = tile.row_begin + tile.thread_row;
    C sum[kWidth];
#pragma unroll
    for (int e = 0; e < kWidth; ++e) sum[e] = 0;
    if (tile.active && first_row < tile.row_end) {
      load(first_row).Get(sum);
#pragma unroll
      for (int e = 0; e < kWidth; ++e) sum[e] -= origin_of(tile.GroupOf(tile.lane + e));
    }
    const int64_t rows = tile.row_end - tile.row_begin;
    const C read = static_cast<C>((rows < tile.thread_rows ? rows : tile.thread_rows) *
                                  tile.group_lanes);
    shared.Reduce(
        tile, 1, sum, count, NoLane(), NoWeight<C>(), [&](int group, C total, C) {
          shared.SetResult(group, Rounded<T>(origin_of(group) + total / read), C(0));
        });
    LaneResults(shared, tile, near, count);
  }

  // The recurrence rounds the mean once a row, which is good enough for the squares.
  // The mean itself comes from a sum.
  LongSum<C> sums[kWidth];
  C rows = 0, share = 0, share_of = 0;
  tile.ForEachRow([&](int64_t row, int) {
    // The sum may lie over x and the residual, whose first elements others have read by
    // now.
    const P pack = load(row);
    if (args.sum != nullptr) {
      pack.StoreTo(static_cast<T*>(args.sum) + tile.Offset(tiles, outer, row), false);
    }
    C values[kWidth];
    pack.Get(values);
    rows += C(1);
    if (masked) {
      const uint32_t kept = Kept<kWidth>(args.mask, outer * tiles.rows + row,
                                         tile.first_lane + tile.lane);
#pragma unroll
      for (int e = 0; e < kWidth; ++e) {
        if (!Has(kept, e)) continue;
        if (count[e] == C(0)) near[e] = values[e];
        count[e] += C(1);
        // Mostly the same for all lanes.
        if (count[e] != share_of) {
          share_of = count[e];
          share = C(1) / share_of;
        }
        const C value = values[e] - near[e];
        const C d = value - mean[e];
        mean[e] += d * share;
        squares[e] += d * (value - mean[e]);
      }
      return;
    }
    share = C(1) / rows;
#pragma unroll
    for (int e = 0; e < kWidth; ++e) {
      const C value = values[e] - near[e];
      const C d = value - mean[e];
      if (args.centred) {
        sums[e].Add(value);
        mean[e] += d * share;
        squares[e] += d * (value - mean[e]);
      } else {
        squares[e] += d * d;
      }
    }
  });
  if (masked) {
    CentreLanes(tile, shared, near, mean, count);
  } else {
#pragma unroll
    for (int e = 0; e < kWidth; ++e) {
      count[e] = rows;
      if (rows > C(0)) mean[e] = sums[e].sum / rows;
    }
  }

  if (args.centred) {
    C sum[kWidth];
#pragma unroll
    for (int e = 0; e < kWidth; ++e) sum[e] = count[e] * mean[e];
    shared.Reduce(tile, 1, sum, count, NoLane(), NoWeight<C>(),
                  [&](int group, C total, C total_count) {
                    shared.SetResult(group, shared.Result(group, 0),
                                     total_count > C(0) ? total / total_count : C(0));
                  });
    C group_mean[kWidth];
    LaneResults(shared, tile, near, group_mean);
#pragma unroll
    for (int e = 0; e < kWidth; ++e) {
      const C d = mean[e] - group_mean[e];
      if (count[e] > C(0)) squares[e] += count[e] * d * d;
    }
  }
  shared.Reduce(tile, 1, squares, count, NoLane(), NoWeight<C>(),
                [&](int group, C total, C total_count) {
                  Moments<C> moments = {0, 0, total, total_count};
                  if (args.centred) {
                    moments.near = shared.Result(group, 0);
                    moments.mean = shared.Result(group, 1);
                  }
                  StoreMoments(args.partial, PartialIndex(tiles, tile, outer, group),
                               moments);
                });
}

template <class T, int kWidth>
FUSEDNORM_KERNEL(256, 2)
SplitTileNormalize(const ForwardArgs args) {
  typedef typename Number<T>::Compute C;
  typedef Pack<T, kWidth> P;
  const Tiles& tiles = args.tiles;
  // From the end, where the first kernel's last reads are still in L2.
  const Tile<kWidth> tile(tiles, device::Blocks() - 1 - device::Block());
  const TileShared<C> shared(tiles.lanes, tile.thread_rows);
  const int64_t outer = tile.slot;
  C inverse_count = static_cast<C>(args.inverse_count);

  const int team = JoiningTeam(tile);
  const int member = device::Thread() % team;
  const int teams = device::Threads() / team;
  for (int round = 0; round < tile.groups; round += teams) {
    const int group = round + device::Thread() / team;
    const bool valid = group < tile.groups;
    C near = 0, sum = 0;
    if (args.mask.positions != nullptr) {
      Centre<C> centre;
      C count = 0;
      if (valid) {
        ForEachPartial(tiles, tile, outer, group, member, team, [&](int64_t i) {
          const Moments<C> part = LoadMoments<C>(args.partial, i);
          centre.Add(part);
          count += part.count;
        });
      }
      centre.sum = LaneSum(centre.sum, team);
      centre.parts = LaneSum(centre.parts, team);
      near = centre.Value();
      inverse_count = Inverse(LaneSum(count, team));
    } else if (valid && args.centred) {
      ForEachPartial(tiles, tile, outer, group, 0, 1 << 30, [&](int64_t first) {
        near = LoadMoments<C>(args.partial, first).near;
      });
    }
    if (valid && args.centred) {
      ForEachPartial(tiles, tile, outer, group, member, team, [&](int64_t i) {
        const Moments<C> part = LoadMoments<C>(args.partial, i);
        sum += part.count * ((part.near - near) + part.mean);
      });
    }
    const C away = LaneSum(sum, team) * inverse_count;
    C squares = 0;
    if (valid) {
      ForEachPartial(tiles, tile, outer, group, member, team, [&](int64_t i) {
        const Moments<C> part = LoadMoments<C>(args.partial, i);
        const C d = (part.near - near) + part.mean - away;
        squares += part.squares + part.count * d * d;
      });
    }
    squares = LaneSum(squares, team);
    if (!valid || member != 0) continue;
    SetStatistics(args, tile.Statistic(tiles, outer, group),
                  tile.slab == 0 && tile.part == 0, group, near + away,
                  squares * inverse_count, shared);
  }
  device::SyncBlock();

  C mean[kWidth], rstd[kWidth];
  LaneResults(shared, tile, mean, rstd);
  TileAffine<T, kWidth> affine(args, tile);
  const T* from = static_cast<const T*>(args.residual == nullptr ? args.x : args.sum);
  tile.ForEachRow([&](int64_t row, int) {
    const int64_t at = tile.Offset(tiles, outer, row);
    C values[kWidth];
    P::LoadFrom(from + at).Get(values);
    affine.SetRow(args, row, at);
    Normalize(mean, rstd, affine.gamma, affine.beta, values);
    Activate(args.activation, values);
    P::Of(values).StoreTo(static_cast<T*>(args.y) + at, args.stream);
  });
}

}  // namespace cuda
}  // namespace fusednorm
