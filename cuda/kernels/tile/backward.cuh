// Backward of tiles: x and dy held in shared memory and read once, or summed first and
// dx written by a second kernel. dgamma and dbeta come from the sums of lanes, for
// columns from the sums of rows; those of each position are written at once.
#pragma once

#include "cuda/kernels/columns/column_sums.cuh"
#include "cuda/kernels/common/gradient.cuh"
#include "cuda/kernels/mask/mask.cuh"
#include "cuda/kernels/tile/affine.cuh"

namespace fusednorm {
namespace cuda {

// mean and rstd of a thread's lanes.
template <class C, int kWidth>
FUSEDNORM_DEVICE void LoadStatistics(const GradientArgs& args, const Tile<kWidth>& tile,
                                     int64_t outer, C (&mean)[kWidth],
                                     C (&rstd)[kWidth]) {
#pragma unroll
  for (int e = 0; e < kWidth; ++e) {
    mean[e] = rstd[e] = 0;
    if (!tile.active) continue;
    const int64_t at = tile.Statistic(args.tiles, outer, tile.GroupOf(tile.lane + e));
    if (args.centred) mean[e] = device::Load(static_cast<const C*>(args.mean) + at);
    rstd[e] = device::Load(static_cast<const C*>(args.rstd) + at);
  }
}

// Turns the sums of the lanes' groups into what they contribute to dx.
template <class C, int kWidth>
FUSEDNORM_DEVICE void CorrectLanes(const BackwardArgs& args, const Tile<kWidth>& tile,
                                   int64_t outer, C inverse_count,
                                   const C (&rstd)[kWidth], C (&plain)[kWidth],
                                   C (&with_xhat)[kWidth], C (&offset)[kWidth]) {
#pragma unroll
  for (int e = 0; e < kWidth; ++e) {
    offset[e] = 0;
    if (!tile.active) continue;
    const Correction<C> by = CorrectionOf<C>(
        args, plain[e], with_xhat[e], rstd[e], args.dmean, args.drstd,
        tile.Statistic(args.tiles, outer, tile.GroupOf(tile.lane + e)), inverse_count);
    plain[e] = by.plain;
    with_xhat[e] = by.with_xhat;
    offset[e] = by.offset;
  }
}

// Adds up a row's terms over the threads that share it: its part of the gradient of its
// parameter, in the partial sums `to` (null: not wanted). All lanes of a warp call; a
// row's threads are within one.
template <int kWidth, class C>
FUSEDNORM_DEVICE void AddRowParam(const Tiles& tiles, const Tile<kWidth>& tile,
                                  int64_t outer, int64_t row, bool has, C sum,
                                  void* to) {
  if (to == nullptr) return;
  sum = LaneSum(sum, tiles.lanes / kWidth);
  if (!has || tile.lane != 0) return;
  const int64_t sample = tiles.sample.Divide(outer);
  const int64_t set =
      (outer - sample * tiles.sample.divisor()) * tiles.lane_blocks.divisor() +
      tile.lane_block;
  const int64_t at = (set * tiles.samples + sample) * tiles.rows + row;
  device::Store(static_cast<C*>(to) + at, sum);
}

// kResident: dx is written from what is held. Otherwise the groups' sums are left for
// SplitTileGradient. For two blocks a multiprocessor, 16-bit and 64-bit types would
// have to spill.
template <class T, int kWidth, bool kResident>
FUSEDNORM_KERNEL(256, sizeof(T) == 4 || kWidth == 1 ? 2 : 1)
TileBackward(const BackwardArgs args) {
  typedef typename Number<T>::Compute C;
  typedef Pack<T, kWidth> P;
  const Tiles& tiles = args.tiles;
  const Tile<kWidth> tile(tiles, device::Block());
  const int cluster = kResident ? device::ClusterBlocks() : 1;
  TileShared<C> shared(tiles.lanes, tile.thread_rows);
  const device::Shared<typename P::Stored> held(shared.held());
  const auto slot = [](int round, int which) {
    return (2 * round + which) * device::Threads() + device::Thread();
  };
  const bool params = args.params.gamma != nullptr || args.params.beta != nullptr;
  const bool lane_params = params && !tiles.columns;
  const bool row_params = params && tiles.columns;
  TileAffine<T, kWidth> affine(args, tile);
  if (lane_params) {
    for (int lane = device::Thread(); lane < tile.lanes; lane += device::Threads()) {
      shared.param_sums().Set(2 * lane, C(0));
      shared.param_sums().Set(2 * lane + 1, C(0));
    }
  }

  for (int64_t outer = tile.slot; outer < tiles.outer; outer += tiles.slots) {
    C mean[kWidth], rstd[kWidth];
    LoadStatistics(args, tile, outer, mean, rstd);
    C dbeta[kWidth], dgamma[kWidth];
#pragma unroll
    for (int e = 0; e < kWidth; ++e) dbeta[e] = dgamma[e] = 0;
    const int rounds = tile.Rounds();
#pragma unroll 2
    for (int round = 0; round < rounds; ++round) {
      const int64_t row =
          tile.row_begin + tile.thread_row + int64_t{round} * tile.thread_rows;
      const bool has = tile.active && row < tile.row_end;
      C row_dgamma = 0, row_dbeta = 0;
      if (has) {
        const int64_t at = tile.Offset(tiles, outer, row);
        const P x = P::LoadFrom(static_cast<const T*>(args.x) + at);
        const P dy = P::LoadFrom(static_cast<const T*>(args.dy) + at);
        if constexpr (kResident) {
          held.Set(slot(round, 0), x.stored);
          held.Set(slot(round, 1), dy.stored);
        }
        affine.SetRow(args, row, at);
        C xhat[kWidth], dz[kWidth];
        x.Get(xhat);
        dy.Get(dz);
        Differentiate(args, mean, rstd, affine.gamma, affine.beta, xhat, dz);
        if (tiles.positions) {
          StoreParamGradients<T, kWidth>(args.params, at, xhat, dz, args.stream);
        }
#pragma unroll
        for (int e = 0; e < kWidth; ++e) {
          row_dbeta += dz[e];
          row_dgamma += dz[e] * xhat[e];
          // gamma of a lane waits for the sum.
          const C term = ParamsOfLanes(tiles) ? dz[e] : dz[e] * affine.gamma[e];
          dbeta[e] += term;
          dgamma[e] += term * xhat[e];
        }
      }
      if (row_params) {
        AddRowParam(tiles, tile, outer, row, has, row_dgamma, args.params.gamma);
        AddRowParam(tiles, tile, outer, row, has, row_dbeta, args.params.beta);
      }
    }

    shared.Reduce(
        tile, cluster, dbeta, dgamma,
        [&](int lane, C lane_dbeta, C lane_dgamma) {
          if (!lane_params) return;
          const device::Shared<C>& sums = shared.param_sums();
          sums.Set(2 * lane, sums.Get(2 * lane) + lane_dgamma);
          sums.Set(2 * lane + 1, sums.Get(2 * lane + 1) + lane_dbeta);
        },
        [&](int lane) {
          return ParamsOfLanes(tiles) ? affine.GammaOfLane(args, tile.first_lane + lane)
                                      : C(1);
        },
        [&](int group, C plain, C with_xhat) {
          if constexpr (kResident) {
            shared.SetResult(group, plain, with_xhat);
          } else {
            StoreSums(args.partial, PartialIndex(tiles, tile, outer, group), plain,
                      with_xhat);
          }
        });
    if constexpr (kResident) {
      C plain[kWidth], with_xhat[kWidth], offset[kWidth];
      LaneResults(shared, tile, plain, with_xhat);
      CorrectLanes(args, tile, outer, static_cast<C>(args.inverse_count), rstd, plain,
                   with_xhat, offset);
      tile.ForEachRow([&](int64_t row, int round) {
        const int64_t at = tile.Offset(tiles, outer, row);
        affine.SetRow(args, row, at);
        WriteGradient<T, kWidth>(args, mean, rstd, affine.gamma, affine.beta, plain,
                                 with_xhat, offset, P{held.Get(slot(round, 0))},
                                 P{held.Get(slot(round, 1))}, at);
      });
    }
  }
  if (cluster > 1) device::SyncCluster();

  if (!lane_params) return;
  // Those of all slots together, each of which may be a sample's.
  const int64_t set = tile.slab * tiles.slots + tile.slot;
  for (int lane = device::Thread(); lane < tile.lanes; lane += device::Threads()) {
    const int64_t at = set * tiles.line + tile.first_lane + lane;
    if (args.params.gamma != nullptr) {
      device::Store(static_cast<C*>(args.params.gamma) + at,
                    shared.param_sums().Get(2 * lane));
    }
    if (args.params.beta != nullptr) {
      device::Store(static_cast<C*>(args.params.beta) + at,
                    shared.param_sums().Get(2 * lane + 1));
    }
  }
}

template <class T, int kWidth>
FUSEDNORM_KERNEL(256, sizeof(T) == 8 ? 1 : 2)
SplitTileGradient(const BackwardArgs args) {
  typedef typename Number<T>::Compute C;
  typedef Pack<T, kWidth> P;
  const Tiles& tiles = args.tiles;
  const Tile<kWidth> tile(tiles, device::Blocks() - 1 - device::Block());
  const TileShared<C> shared(tiles.lanes, tile.thread_rows);
  const int64_t outer = tile.slot;

  const int team = JoiningTeam(tile);
  const int member = device::Thread() % team;
  const int teams = device::Threads() / team;
  for (int round = 0; round < tile.groups; round += teams) {
    const int group = round + device::Thread() / team;
    const bool valid = group < tile.groups;
    C plain = 0, with_xhat = 0;
    if (valid) {
      ForEachPartial(tiles, tile, outer, group, member, team, [&](int64_t i) {
        const SumPair<C> sums = LoadSums<C>(args.partial, i);
        plain += sums.plain;
        with_xhat += sums.with_xhat;
      });
    }
    plain = LaneSum(plain, team);
    with_xhat = LaneSum(with_xhat, team);
    if (valid && member == 0) shared.SetResult(group, plain, with_xhat);
  }
  device::SyncBlock();

  C mean[kWidth], rstd[kWidth], plain[kWidth], with_xhat[kWidth], offset[kWidth];
  LoadStatistics(args, tile, outer, mean, rstd);
  LaneResults(shared, tile, plain, with_xhat);
  // All groups of a tile are of one sample.
  const C inverse_count = InverseCount<C>(args, outer * tiles.groups);
  CorrectLanes(args, tile, outer, inverse_count, rstd, plain, with_xhat, offset);
  TileAffine<T, kWidth> affine(args, tile);
  tile.ForEachRow([&](int64_t row, int) {
    const int64_t at = tile.Offset(tiles, outer, row);
    const P x = P::LoadFrom(static_cast<const T*>(args.x) + at);
    const P dy = P::LoadFrom(static_cast<const T*>(args.dy) + at);
    affine.SetRow(args, row, at);
    const uint32_t kept =
        Kept<kWidth>(args.mask, outer * tiles.rows + row, tile.first_lane + tile.lane);
    WriteGradient<T, kWidth>(args, mean, rstd, affine.gamma, affine.beta, plain,
                             with_xhat, offset, x, dy, at, kept);
  });
  SumParams<T>(args.params);
}

}  // namespace cuda
}  // namespace fusednorm
