// Second order of tiles: interleaved groups and columns; see tile/tile.cuh.
#pragma once

#include "cuda/kernels/second_order/limits.h"
#include "cuda/kernels/second_order/sums.cuh"
#include "cuda/kernels/tile/backward.cuh"

namespace fusednorm {
namespace cuda {

// Sums of lanes, two at a time through TileShared::Reduce. Of groups gamma and ddgamma
// are the lane's and wait for the sums; of columns they are the row's.
template <class T, int kWidth>
FUSEDNORM_KERNEL(kSecondOrderThreads, 1)
SecondOrderTileSums(const SecondOrderArgs args) {
  typedef typename Number<T>::Compute C;
  const Tiles& tiles = args.tiles;
  const Tile<kWidth> tile(tiles, device::Block());
  TileShared<C> shared(tiles.lanes, tile.thread_rows);
  const bool narrow = args.affine.narrow;

  for (int64_t outer = tile.slot; outer < tiles.outer; outer += tiles.slots) {
    C mean[kWidth], rstd[kWidth];
    LoadStatistics(args, tile, outer, mean, rstd);
    C sums[kSecondOrderSums][kWidth];
#pragma unroll
    for (int s = 0; s < kSecondOrderSums; ++s) {
#pragma unroll
      for (int e = 0; e < kWidth; ++e) sums[s][e] = 0;
    }
    if (tile.active) {
#pragma unroll 2
      for (int64_t row = tile.row_begin + tile.thread_row; row < tile.row_end;
           row += tile.thread_rows) {
        const SecondOrderAccess<T, kWidth> values(args, tile.Offset(tiles, outer, row));
        const C gamma = tiles.columns ? GammaAt<T>(args.affine, row) : C(1);
        const C ddgamma =
            tiles.columns ? ParamOrZero<T>(args.ddgamma, narrow, row) : C(0);
#pragma unroll
        for (int e = 0; e < kWidth; ++e) {
          const SecondOrderSums<C> terms = SecondOrderTerms<C>(
              values.dy[e] * gamma, (values.x[e] - mean[e]) * rstd[e], values.u[e],
              values.dy[e] * ddgamma);
#pragma unroll
          for (int s = 0; s < kSecondOrderSums; ++s) sums[s][e] += terms.at[s];
        }
      }
    }

    const auto one = [](int) { return C(1); };
    const auto gamma_of = [&](int lane) {
      return tiles.columns
                 ? C(1)
                 : GammaAt<T>(args.affine, tiles.q.Divide(tile.first_lane + lane));
    };
    const auto ddgamma_of = [&](int lane) {
      return tiles.columns ? C(1)
                           : ParamOrZero<T>(args.ddgamma, narrow,
                                            tiles.q.Divide(tile.first_lane + lane));
    };
    const auto store = [&](int which, int second, const C(&a)[kWidth],
                           const C(&b)[kWidth], const auto& weight) {
      shared.Reduce(tile, 1, a, b, NoLane(), weight, [&](int group, C first, C last) {
        const int64_t to = PartialIndex(tiles, tile, outer, group);
        StoreSecondOrderSum(args.partial, to, which, first);
        if (second >= 0) StoreSecondOrderSum(args.partial, to, second, last);
      });
    };
    store(kSumA, kSumAXhat, sums[kSumA], sums[kSumAXhat], gamma_of);
    store(kSumU, kSumUXhat, sums[kSumU], sums[kSumUXhat], one);
    store(kSumUA, -1, sums[kSumUA], sums[kSumUA], gamma_of);
    if (tiles.columns) {
      store(kSumV, kSumVXhat, sums[kSumV], sums[kSumVXhat], one);
    } else {
      store(kSumV, kSumVXhat, sums[kSumA], sums[kSumAXhat], ddgamma_of);
    }
  }
}

template <class T, int kWidth>
FUSEDNORM_KERNEL(kSecondOrderThreads, 1)
SecondOrderTileGradient(const SecondOrderArgs args) {
  typedef typename Number<T>::Compute C;
  const Tiles& tiles = args.tiles;
  const Tile<kWidth> tile(tiles, device::Block());
  TileShared<C> shared(tiles.lanes, tile.thread_rows);
  // Six numbers a group.
  const device::Shared<C> shares(shared.held());
  const bool narrow = args.affine.narrow;

  SecondOrderInputs<C> by[kWidth];
  C d_gamma[kWidth];
#pragma unroll
  for (int e = 0; e < kWidth; ++e) {
    d_gamma[e] = 0;
    by[e] = {};
    if (tiles.columns || !tile.active) continue;
    const int64_t param = tiles.q.Divide(tile.first_lane + tile.lane + e);
    by[e].gamma = GammaAt<T>(args.affine, param);
    by[e].ddgamma = ParamOrZero<T>(args.ddgamma, narrow, param);
    by[e].ddbeta = ParamOrZero<T>(args.ddbeta, narrow, param);
  }

  for (int64_t outer = tile.slot; outer < tiles.outer; outer += tiles.slots) {
    const int team = JoiningTeam(tile);
    const int member = device::Thread() % team;
    const int teams = device::Threads() / team;
    for (int round = 0; round < tile.groups; round += teams) {
      const int group = round + device::Thread() / team;
      const bool valid = group < tile.groups;
      SecondOrderSums<C> sums = {};
      if (valid) {
        ForEachPartial(tiles, tile, outer, group, member, team, [&](int64_t i) {
          Add(LoadSecondOrderSums<C>(args.partial, i), &sums);
        });
      }
      LaneSums(&sums, team);
      if (!valid || member != 0) continue;
      const int64_t at = tile.Statistic(tiles, outer, group);
      const C rstd = device::Load(static_cast<const C*>(args.rstd) + at);
      const SecondOrderShares<C> of_group = SharesOfGroup(args, sums, rstd, at);
      shares.Set(6 * group, of_group.mean_u);
      shares.Set(6 * group + 1, of_group.mean_u_xhat);
      shares.Set(6 * group + 2, of_group.of_u);
      shares.Set(6 * group + 3, of_group.of_a);
      shares.Set(6 * group + 4, of_group.plain);
      shares.Set(6 * group + 5, of_group.with_xhat);
      if (tile.slab == 0 && tile.part == 0) {
        StoreStatisticGradients(args, of_group, rstd, at);
      }
    }
    device::SyncBlock();

#pragma unroll
    for (int e = 0; e < kWidth; ++e) {
      if (!tile.active) continue;
      const int group = tile.GroupOf(tile.lane + e);
      const int64_t at = tile.Statistic(tiles, outer, group);
      if (args.centred) {
        by[e].mean = device::Load(static_cast<const C*>(args.mean) + at);
      }
      by[e].rstd = device::Load(static_cast<const C*>(args.rstd) + at);
      by[e].shares = {shares.Get(6 * group),     shares.Get(6 * group + 1),
                      shares.Get(6 * group + 2), shares.Get(6 * group + 3),
                      shares.Get(6 * group + 4), shares.Get(6 * group + 5)};
    }
    const int rounds = tile.Rounds();
    for (int round = 0; round < rounds; ++round) {
      const int64_t row =
          tile.row_begin + tile.thread_row + int64_t{round} * tile.thread_rows;
      const bool has = tile.active && row < tile.row_end;
      C of_row = 0;
      if (has) {
        if (tiles.columns) {
          const C gamma = GammaAt<T>(args.affine, row);
          const C ddgamma = ParamOrZero<T>(args.ddgamma, narrow, row);
          const C ddbeta = ParamOrZero<T>(args.ddbeta, narrow, row);
#pragma unroll
          for (int e = 0; e < kWidth; ++e) {
            by[e].gamma = gamma;
            by[e].ddgamma = ddgamma;
            by[e].ddbeta = ddbeta;
          }
        }
        C terms[kWidth];
        WriteSecondOrder<T, kWidth>(
            args, tile.Offset(tiles, outer, row), [&](int e) { return by[e]; }, terms);
#pragma unroll
        for (int e = 0; e < kWidth; ++e) {
          d_gamma[e] += terms[e];
          of_row += terms[e];
        }
      }
      if (tiles.columns) {
        AddRowParam(tiles, tile, outer, row, has, of_row, args.params.gamma);
      }
    }
    device::SyncBlock();  // the shares are no longer read
  }

  if (tiles.columns || args.params.gamma == nullptr) return;
  const int64_t set = tile.slot * tiles.slabs.divisor() + tile.slab;
  shared.Reduce(
      tile, 1, d_gamma, d_gamma,
      [&](int lane, C sum, C) {
        device::Store(static_cast<C*>(args.params.gamma) + set * tiles.line +
                          tile.first_lane + lane,
                      sum);
      },
      [](int) { return C(1); }, [](int, C, C) {});
}

}  // namespace cuda
}  // namespace fusednorm
