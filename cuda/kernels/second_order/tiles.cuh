// Second order of tiles: interleaved groups (channels_last), and columns (one axis in
// the middle is reduced).
#pragma once

#include "cuda/kernels/second_order/sums.cuh"
#include "cuda/kernels/second_order/tile_sums.cuh"

namespace fusednorm {
namespace cuda {
namespace second_order {

// Stores a tile's sums, two at a time. gamma and ddgamma of a lane are multiplied in
// only here, so that until then the lane's sums of v are its sums of a.
template <class T, int kWidth>
FUSEDNORM_DEVICE void StoreSumsOfTile(
    const SecondOrderArgs& args, const SecondOrderGeometry& geometry,
    const Tile<kWidth>& tile, const TileSums<typename Number<T>::Compute>& shared,
    int64_t outer,
    const typename Number<T>::Compute (&sums)[kSecondOrderSums][kWidth]) {
  typedef typename Number<T>::Compute C;
  const auto param = [&](int lane) {
    return geometry.q.Divide(tile.first_lane + lane);
  };
  const auto one = [](int) { return C(1); };
  const auto gamma_of = [&](int lane) {
    return geometry.columns ? C(1) : GammaAt<T>(args.affine, param(lane));
  };
  const auto ddgamma_of = [&](int lane) {
    return geometry.columns
               ? C(1)
               : ParamOrZero<T>(args.ddgamma, args.affine.narrow, param(lane));
  };
  const auto store = [&](int which, int second, const auto& weight) {
    shared.OfGroups(
        tile, sums[which], sums[second], weight, [&](int group, C first, C last) {
          C* to =
              static_cast<C*>(args.partial) +
              PartialAt(geometry, tile.Group(geometry, outer, group), tile.slice, 0);
          device::Store(to + which, first);
          device::Store(to + second, last);
        });
  };
  store(kSumA, kSumAXhat, gamma_of);
  store(kSumU, kSumUXhat, one);
  store(kSumUA, kSumUA, gamma_of);
  store(kSumV, kSumVXhat, ddgamma_of);
}

// Joins the sums that all tiles of a group have left, for all groups of this tile.
template <class C, int kWidth>
FUSEDNORM_DEVICE void ShareSums(const SecondOrderArgs& args,
                                const SecondOrderGeometry& geometry,
                                const Tile<kWidth>& tile, int64_t outer,
                                const device::Shared<C>& shares) {
  const int team = tile.TeamFor(geometry.slices.divisor());
  const int member = device::Thread() % team;
  const int teams = device::Threads() / team;
  for (int round = 0; round < tile.groups; round += teams) {
    const int group = round + device::Thread() / team;
    const bool valid = group < tile.groups;
    const int64_t at = tile.Group(geometry, outer, group);
    const C rstd = valid ? device::Load(static_cast<const C*>(args.rstd) + at) : C(0);
    const SecondOrderShares<C> of = JoinShares(args, geometry, at, valid, rstd, member,
                                               team, tile.slice == 0 && member == 0);
    if (!valid || member != 0) continue;
    shares.Set(kShares * group, of.mean_u);
    shares.Set(kShares * group + 1, of.mean_u_xhat);
    shares.Set(kShares * group + 2, of.of_u);
    shares.Set(kShares * group + 3, of.of_a);
    shares.Set(kShares * group + 4, of.plain);
    shares.Set(kShares * group + 5, of.with_xhat);
  }
}

template <class T, int kWidth, bool kGradient>
FUSEDNORM_KERNEL(kThreads, 1)
SecondOrderTiles(const SecondOrderArgs args, const SecondOrderGeometry geometry) {
  typedef typename Number<T>::Compute C;
  const Tile<kWidth> tile(geometry);
  const TileLayout layout(geometry.lanes, tile.thread_rows);
  const TileSums<C> shared(geometry.lanes, layout);
  const device::Shared<C> shares(layout.shares * sizeof(C));

  Inputs<C> by[kWidth];
  C d_gamma[kWidth];
#pragma unroll
  for (int e = 0; e < kWidth; ++e) {
    d_gamma[e] = 0;
    by[e] = {};
    by[e].gamma = by[e].ddgamma = 1;  // those of a lane are multiplied into its sums
    if (!kGradient || geometry.columns || !tile.active) continue;
    by[e].template SetParams<T>(args,
                                geometry.q.Divide(tile.first_lane + tile.lane + e));
  }

  for (int64_t outer = tile.slot; outer < geometry.outer; outer += geometry.slots) {
    if constexpr (kGradient) {
      ShareSums(args, geometry, tile, outer, shares);
      device::SyncBlock();
    }
    C sums[kSecondOrderSums][kWidth];
#pragma unroll
    for (int e = 0; e < kWidth; ++e) {
#pragma unroll
      for (int s = 0; s < kSecondOrderSums; ++s) sums[s][e] = 0;
      if (!tile.active) continue;
      const int group = (tile.lane + e) / tile.group_lanes;
      by[e].SetStatistics(args, tile.Group(geometry, outer, group), true);
      if constexpr (kGradient) {
        const int at = kShares * group;
        by[e].shares = {shares.Get(at),     shares.Get(at + 1), shares.Get(at + 2),
                        shares.Get(at + 3), shares.Get(at + 4), shares.Get(at + 5)};
      }
    }

    // All threads make the same number of rounds, because warps add up over their
    // lanes.
#pragma unroll 2
    for (int64_t first = tile.row_begin; first < tile.row_end;
         first += tile.thread_rows) {
      const int64_t row = first + tile.thread_row;
      const bool has = tile.active && row < tile.row_end;
      C of_row = 0;
      if (has) {
        if (geometry.columns) {
          by[0].template SetParams<T>(args, row);
#pragma unroll
          for (int e = 1; e < kWidth; ++e) {
            by[e].gamma = by[0].gamma;
            by[e].ddgamma = by[0].ddgamma;
            by[e].ddbeta = by[0].ddbeta;
          }
        }
        const int64_t at = tile.Offset(geometry, outer, row);
        if constexpr (kGradient) {
          C terms[kWidth];
          WriteGradients<T, kWidth>(args, at, [&](int e) { return by[e]; }, terms);
#pragma unroll
          for (int e = 0; e < kWidth; ++e) {
            d_gamma[e] += terms[e];
            of_row += terms[e];
          }
        } else {
          const Access<T, kWidth> values(args, at);
#pragma unroll
          for (int e = 0; e < kWidth; ++e) {
            const SecondOrderSums<C> terms = values.Terms(e, by[e]);
#pragma unroll
            for (int s = 0; s < kSecondOrderSums; ++s) sums[s][e] += terms.at[s];
          }
        }
      }
      if constexpr (kGradient) {
        // The row's part of d_gamma. The threads of a row are within one warp.
        if (!geometry.columns || args.params.gamma == nullptr) continue;
        of_row = LaneSum(of_row, geometry.lanes / kWidth);
        if (!has || tile.lane != 0) continue;
        const int64_t set = outer * geometry.lane_blocks.divisor() + tile.lane_block;
        device::Store(static_cast<C*>(args.params.gamma) + set * geometry.rows + row,
                      of_row);
      }
    }
    if constexpr (kGradient) {
      device::SyncBlock();  // the shares are no longer read
    } else {
      StoreSumsOfTile<T>(args, geometry, tile, shared, outer, sums);
    }
  }

  if constexpr (kGradient) {
    if (geometry.columns || args.params.gamma == nullptr) return;
    const int64_t slabs = geometry.parts.Divide(geometry.slices.divisor());
    const int64_t set = tile.slot * slabs + geometry.parts.Divide(tile.slice);
    shared.OfLanes(tile, d_gamma, d_gamma, [&](int lane, C sum, C) {
      device::Store(static_cast<C*>(args.params.gamma) + set * geometry.line +
                        tile.first_lane + lane,
                    sum);
    });
  }
}

}  // namespace second_order
}  // namespace cuda
}  // namespace fusednorm
