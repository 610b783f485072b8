// Forward of tiles: held in shared memory, of a block or a cluster, so that x is read
// once; or, where they fit on no chip, moments first and y in a second kernel.
#pragma once

#include "cuda/tile.cuh"

namespace fusednorm {
namespace cuda {

// Stores the statistics of a group and leaves them in shared memory for the block.
template <class C>
FUSEDNORM_DEVICE void SetStatistics(const ForwardArgs& args, int64_t at, bool writes,
                                    int group, C mean, C variance,
                                    const TileShared<C>& shared) {
  const C rstd = InverseSqrt(variance + static_cast<C>(args.epsilon));
  shared.SetResult(group, mean, rstd);
  if (!writes) return;
  if (args.centred) device::Store(static_cast<C*>(args.mean) + at, mean);
  device::Store(static_cast<C*>(args.rstd) + at, rstd);
}

template <class T, int kWidth>
FUSEDNORM_KERNEL(256, sizeof(T) == 8 ? 1 : 2)
TileForward(const ForwardArgs args) {
  typedef typename Number<T>::Compute C;
  typedef Pack<T, kWidth> P;
  const Tiles& tiles = args.tiles;
  const Tile<kWidth> tile(tiles, device::Block());
  const int cluster = device::ClusterBlocks();
  TileShared<C> shared(tiles.lanes, tile.thread_rows);
  const device::Shared<typename P::Stored> held(shared.held());
  const auto slot = [](int round) {
    return round * device::Threads() + device::Thread();
  };
  const bool writes = tile.slab == 0 && tile.part == 0;
  const C inverse_count = static_cast<C>(args.inverse_count);
  TileAffine<T, kWidth> affine(args, tile);

  for (int64_t outer = tile.slot; outer < tiles.outer; outer += tiles.slots) {
    tile.ForEachRow([&](int64_t row, int round) {
      const int64_t at = tile.Offset(tiles, outer, row);
      P pack = P::LoadFrom(static_cast<const T*>(args.x) + at);
      if (args.residual != nullptr) {
        pack = Sum<T, kWidth>(pack,
                              P::LoadFrom(static_cast<const T*>(args.residual) + at));
      }
      held.Set(slot(round), pack.stored);
    });

    // The group's very first element, for all tiles of it.
    const auto shift_of = [&](int group) {
      return FirstElement<T>(args.x, args.residual,
                             outer * tiles.rows * tiles.line +
                                 (tile.first_group + group) * tiles.group_lanes);
    };
    C mean[kWidth], unused[kWidth];
#pragma unroll
    for (int e = 0; e < kWidth; ++e) mean[e] = unused[e] = 0;
    if (args.centred) {
      C sum[kWidth];
#pragma unroll
      for (int e = 0; e < kWidth; ++e) {
        sum[e] = 0;
        mean[e] = tile.active ? shift_of(tile.GroupOf(tile.lane + e)) : C(0);
      }
      tile.ForEachRow([&](int64_t, int round) {
        C values[kWidth];
        P{held.Get(slot(round))}.Get(values);
#pragma unroll
        for (int e = 0; e < kWidth; ++e) sum[e] += values[e] - mean[e];
      });
      shared.Reduce(tile, cluster, sum, unused, NoLane(), NoWeight<C>(),
                    [&](int group, C total, C) {
                      shared.SetResult(group, shift_of(group) + total * inverse_count,
                                       C(0));
                    });
      LaneResults(shared, tile, mean, unused);
    }
    C sum[kWidth], squares[kWidth];
#pragma unroll
    for (int e = 0; e < kWidth; ++e) sum[e] = squares[e] = 0;
    tile.ForEachRow([&](int64_t, int round) {
      C values[kWidth];
      P{held.Get(slot(round))}.Get(values);
#pragma unroll
      for (int e = 0; e < kWidth; ++e) {
        const C d = values[e] - mean[e];
        sum[e] += d;
        squares[e] += d * d;
      }
    });
    shared.Reduce(tile, cluster, sum, squares, NoLane(), NoWeight<C>(),
                  [&](int group, C total, C total_squares) {
                    // Corrects the mean by what rounding it has cost.
                    if (!args.centred) total = 0;
                    const C near = args.centred ? shared.Result(group, 0) : C(0);
                    SetStatistics(args, tile.Statistic(tiles, outer, group), writes,
                                  group, near + total * inverse_count,
                                  Variance(total, total_squares, inverse_count),
                                  shared);
                  });
    C rstd[kWidth];
    LaneResults(shared, tile, mean, rstd);
    tile.ForEachRow([&](int64_t row, int round) {
      const int64_t at = tile.Offset(tiles, outer, row);
      const P pack = {held.Get(slot(round))};
      if (args.sum != nullptr) {
        pack.StoreTo(static_cast<T*>(args.sum) + at, args.stream);
      }
      affine.SetRow(args, row);
      C values[kWidth];
      pack.Get(values);
      Normalize(args, mean, rstd, affine.gamma, affine.beta, values);
      P::Of(values).StoreTo(static_cast<T*>(args.y) + at, args.stream);
    });
  }
  if (cluster > 1) device::SyncCluster();
}

// Moments of one tile: Welford's recurrence down the rows, each lane on its own. It
// runs on deviations from the group's first element, so that it rounds numbers of the
// size of the standard deviation, not of the mean.
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
  C near[kWidth], mean[kWidth], squares[kWidth], unused[kWidth];
#pragma unroll
  for (int e = 0; e < kWidth; ++e) near[e] = mean[e] = squares[e] = unused[e] = 0;
  if (args.centred) {
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
    shared.Reduce(tile, 1, sum, unused, NoLane(), NoWeight<C>(),
                  [&](int group, C total, C) {
                    shared.SetResult(group, origin_of(group) + total / read, C(0));
                  });
    LaneResults(shared, tile, near, unused);
  }

  C count = 0;
  tile.ForEachRow([&](int64_t row, int) {
    // The sum may lie over x and the residual, whose first elements others have read by
    // now.
    const P pack = load(row);
    if (args.sum != nullptr) {
      pack.StoreTo(static_cast<T*>(args.sum) + tile.Offset(tiles, outer, row), false);
    }
    C values[kWidth];
    pack.Get(values);
    count += C(1);
    const C share = C(1) / count;
#pragma unroll
    for (int e = 0; e < kWidth; ++e) {
      const C value = values[e] - near[e];
      const C d = value - mean[e];
      if (args.centred) {
        mean[e] += d * share;
        squares[e] += d * (value - mean[e]);
      } else {
        squares[e] += d * d;
      }
    }
  });

  if (args.centred) {
    C sum[kWidth];
#pragma unroll
    for (int e = 0; e < kWidth; ++e) sum[e] = count * mean[e];
    const C group_count = static_cast<C>(tile.GroupCount());
    shared.Reduce(
        tile, 1, sum, unused, NoLane(), NoWeight<C>(), [&](int group, C total, C) {
          shared.SetResult(group, shared.Result(group, 0), total / group_count);
        });
    C group_mean[kWidth];
    LaneResults(shared, tile, unused, group_mean);
#pragma unroll
    for (int e = 0; e < kWidth; ++e) {
      const C d = mean[e] - group_mean[e];
      if (count > C(0)) squares[e] += count * d * d;
      unused[e] = 0;
    }
  }
  shared.Reduce(
      tile, 1, squares, unused, NoLane(), NoWeight<C>(), [&](int group, C total, C) {
        Moments<C> moments = {0, 0, total};
        if (args.centred) {
          moments.near = shared.Result(group, 0);
          moments.mean = shared.Result(group, 1);
        }
        StoreMoments(args.partial, PartialIndex(tiles, tile, outer, group), moments);
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
  const C inverse_count = static_cast<C>(args.inverse_count);

  const int team = JoiningTeam(tile);
  const int member = device::Thread() % team;
  const int teams = device::Threads() / team;
  for (int round = 0; round < tile.groups; round += teams) {
    const int group = round + device::Thread() / team;
    const bool valid = group < tile.groups;
    C near = 0, sum = 0;
    if (valid && args.centred) {
      ForEachPartial(tiles, tile, outer, group, 0, 1 << 30,
                     [&](int64_t first, int64_t) {
                       near = LoadMoments<C>(args.partial, first).near;
                     });
      ForEachPartial(tiles, tile, outer, group, member, team,
                     [&](int64_t i, int64_t count) {
                       const Moments<C> part = LoadMoments<C>(args.partial, i);
                       sum += static_cast<C>(count) * ((part.near - near) + part.mean);
                     });
    }
    const C away = LaneSum(sum, team) * inverse_count;
    C squares = 0;
    if (valid) {
      ForEachPartial(tiles, tile, outer, group, member, team,
                     [&](int64_t i, int64_t count) {
                       const Moments<C> part = LoadMoments<C>(args.partial, i);
                       const C d = (part.near - near) + part.mean - away;
                       squares += part.squares + static_cast<C>(count) * d * d;
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
    affine.SetRow(args, row);
    Normalize(args, mean, rstd, affine.gamma, affine.beta, values);
    P::Of(values).StoreTo(static_cast<T*>(args.y) + at, args.stream);
  });
}

}  // namespace cuda
}  // namespace fusednorm
