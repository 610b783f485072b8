// Forward of tiles that are held in shared memory, of a block or a cluster: x is read
// once.
#pragma once

#include "cuda/kernels/common/moments.cuh"
#include "cuda/kernels/tile/affine.cuh"

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
      affine.SetRow(args, row, at);
      C values[kWidth];
      pack.Get(values);
      Normalize(mean, rstd, affine.gamma, affine.beta, values);
      Activate(args.activation, values);
      P::Of(values).StoreTo(static_cast<T*>(args.y) + at, args.stream);
    });
  }
  if (cluster > 1) device::SyncCluster();
}

}  // namespace cuda
}  // namespace fusednorm
