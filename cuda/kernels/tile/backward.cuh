// Backward of `tile`: x and dy are loaded once, into registers. Each block leaves
// partial sums of dgamma and dbeta. If there are several, the ColumnSums kernel adds
// them up.
#pragma once

#include <type_traits>

#include "cuda/kernels/common/batch.cuh"
#include "cuda/kernels/common/statistics.cuh"
#include "cuda/kernels/lines/apply.cuh"
#include "cuda/kernels/lines/param_gradients.cuh"
#include "cuda/kernels/lines/sums.cuh"
#include "cuda/kernels/tile/features.cuh"
#include "cuda/kernels/tile/place.cuh"

namespace fusednorm {
namespace cuda {

// The sums of each lane over a block's rows, and what is computed from them.
template <class T, int kWidth>
class TileSums {
 public:
  typedef typename Number<T>::Compute C;

  FUSEDNORM_DEVICE TileSums(const BackwardArgs& args, const TileGeometry& geometry,
                            const LineSet& set, int rank)
      : args_(args),
        g_(geometry.lines),
        cluster_bits_(geometry.cluster_bits),
        rank_(rank),
        set_(set),
        table_offset_(geometry.shared.table * int64_t{sizeof(C)}),
        lanes_(geometry.shared.lane_sums * int64_t{sizeof(C)}),
        own_(geometry.shared.own * int64_t{sizeof(C)}),
        joined_(geometry.shared.joined * int64_t{sizeof(C)}) {}

  // Sets the sums of dz and of dz * xhat. One thread calls for each lane.
  FUSEDNORM_DEVICE void Set(int lane, C plain, C with_xhat) const {
    lanes_.Set(2 * lane, plain);
    lanes_.Set(2 * lane + 1, with_xhat);
  }
  // All threads must call, after Set.
  FUSEDNORM_DEVICE void Join(const LaneConstants<C, kWidth>& constants) const {
    device::SyncBlock();
    StoreParams();
    JoinBlock(constants);
    if (cluster_bits_ > 0) {
      device::SyncCluster();
      JoinCluster(constants);
    }
    device::SyncBlock();
  }
  FUSEDNORM_DEVICE JoinedShares<C> shares(int group) const {
    return {joined_.Get(2 * group), joined_.Get(2 * group + 1)};
  }

 private:
  FUSEDNORM_DEVICE FirstOrderSums<C> OfCopies(int lane) const {
    FirstOrderSums<C> sum = {0, 0};
#pragma unroll 1
    for (int copy = 0; copy < g_.copies; ++copy) {
      const int at = 2 * (lane + copy * g_.copy_lanes.divisor());
      sum.plain += lanes_.Get(at);
      sum.with_xhat += lanes_.Get(at + 1);
    }
    return sum;
  }
  // Stores the block's part of dgamma and dbeta. Those of rows are written where they
  // are summed.
  FUSEDNORM_DEVICE void StoreParams() const {
    C* const gamma = static_cast<C*>(args_.params.gamma);
    C* const beta = static_cast<C*>(args_.params.beta);
    if (g_.columns || (gamma == nullptr && beta == nullptr)) return;
    const int64_t unit = UnitOfParams(g_, set_.outer, 1 << cluster_bits_, rank_);
    const int64_t at = unit * LanesOfCopy(g_) + set_.first_lane;
    const int lanes = g_.copies > 1 ? g_.copy_lanes.divisor() : set_.lanes;
#pragma unroll 1
    for (int lane = device::Thread(); lane < lanes; lane += device::Threads()) {
      const FirstOrderSums<C> sum = OfCopies(lane);
      if (gamma != nullptr) device::Store(gamma + at + lane, sum.with_xhat);
      if (beta != nullptr) device::Store(beta + at + lane, sum.plain);
    }
  }
  // A team of threads joins each group and shares its lanes. If there is one group, the
  // whole block is its team.
  FUSEDNORM_DEVICE void JoinBlock(const LaneConstants<C, kWidth>& constants) const {
    const bool one = g_.tile_groups == 1;
    const int bits = g_.lane_bits + g_.row_bits;
    const int team = one ? device::kWarp : 1 << bits;
    const int step = one ? device::Threads() : team;
    const int member = one ? device::Thread() : device::Thread() & (team - 1);
    const int teams = one ? 1 : device::Threads() >> bits;
    const int lanes = g_.group_lanes.divisor();
#pragma unroll 1
    for (int first = 0; first < set_.groups; first += teams) {
      const int group = first + (one ? 0 : device::Thread() >> bits);
      C plain = 0, with_xhat = 0;
      if (group < set_.groups) {
#pragma unroll 1
        for (int i = member; i < lanes; i += step) {
          const int lane = group * lanes + i;
          const C gamma = g_.columns ? C(1) : constants.GetOne(kLaneGamma, lane);
          const FirstOrderSums<C> sums = Weighted(OfCopies(lane), gamma);
          plain += sums.plain;
          with_xhat += sums.with_xhat;
        }
      }
      plain = LaneSum(plain, team);
      with_xhat = LaneSum(with_xhat, team);
      // No thread reads the table of the sums over rows of threads any more, so
      // SumWarps may overwrite it.
      if (one) SumWarps(table_offset_, 0, &plain, &with_xhat);
      if (member != 0 || group >= set_.groups) continue;
      if (cluster_bits_ == 0) {
        Finish(group, plain, with_xhat, constants);
      } else {
        own_.Set(2 * group, plain);
        own_.Set(2 * group + 1, with_xhat);
      }
    }
  }
  FUSEDNORM_DEVICE void JoinCluster(const LaneConstants<C, kWidth>& constants) const {
#pragma unroll 1
    for (int group = device::Thread(); group < set_.groups;
         group += device::Threads()) {
      C plain = 0, with_xhat = 0;
#pragma unroll 4
      for (int rank = 0; rank < 1 << cluster_bits_; ++rank) {
        plain += own_.GetFrom(rank, 2 * group);
        with_xhat += own_.GetFrom(rank, 2 * group + 1);
      }
      Finish(group, plain, with_xhat, constants);
    }
  }
  FUSEDNORM_DEVICE void Finish(int group, C plain, C with_xhat,
                               const LaneConstants<C, kWidth>& constants) const {
    const C rstd = constants.GetOne(kLaneRstd, group * g_.group_lanes.divisor());
    const FirstOrderSums<C> sums = {plain, with_xhat};
    const FirstOrderShares<C> of_group =
        SharesOfGroup(args_, sums, rstd, args_.dmean, args_.drstd,
                      set_.first_group + group, static_cast<C>(args_.inverse_count));
    const JoinedShares<C> shares = Joined(of_group, rstd);
    joined_.Set(2 * group, shares.with_xhat);
    joined_.Set(2 * group + 1, shares.added);
  }

  const BackwardArgs& args_;
  const LinesGeometry& g_;
  const int cluster_bits_, rank_;
  const LineSet& set_;
  const int64_t table_offset_;
  const device::Shared<C> lanes_, own_, joined_;
};

template <class T, int kVectors, class Features>
FUSEDNORM_KERNEL(kTileThreads, 1)
TileBackward(const BackwardArgs args, const TileGeometry geometry) {
  typedef typename Number<T>::Compute C;
  constexpr int kWidth = kWidthOf<T, Features>;
  const LinesGeometry& g = geometry.lines;
  const TileBlock block(geometry);
  const LineSet& set = block.set;
  const LinePlace<kWidth> place(g, set, 0, block.begin, block.end);
  Pack<T, kWidth> x[kVectors], dy[kVectors];
  LoadBatch(static_cast<const T*>(args.x) + place.at, 0, place, x);
  LoadBatch(static_cast<const T*>(args.dy) + place.at, 0, place, dy);

  const LaneConstants<C, kWidth> constants(g, 0);
  const auto params =
      ParamsOfTile<T, kVectors, Features>(args, g, set, place, constants);
  VisitLanes(place, [&](int lane) {
    const int64_t group = set.first_group + GroupOfLane(g, lane);
    constants.Set(kLaneMean, lane,
                  device::Load(static_cast<const C*>(args.mean) + group));
    constants.Set(kLaneRstd, lane,
                  device::Load(static_cast<const C*>(args.rstd) + group));
    if constexpr (!Features::kColumns) {
      SetAffine<T>(args, g, set, place.first_lane, lane, constants);
    }
  });
  device::SyncBlock();
  std::conditional_t<Features::kColumns, RowSums<C, kWidth, kVectors>,
                     LaneSums<C, kWidth>>
      mine;
  if (place.count > 0) {
    WithActivation<true>(args.activation, [&](const auto& activation) {
      AddBatch<T>(constants, place.column, params, activation, x, dy, place.count,
                  &mine);
    });
  }
  if constexpr (Features::kColumns) {
#pragma unroll
    for (int v = 0; v < kVectors; ++v) {
      const int64_t row = place.first_row + v * int64_t{g.thread_rows.divisor()};
      const bool has = v < place.count;
      PublishRowParam(args.params.gamma, g, set, place, row, has, mine.of_gamma[v]);
      PublishRowParam(args.params.beta, g, set, place, row, has, mine.of_beta[v]);
    }
  }
  const TileSums<T, kWidth> sums(args, geometry, set, block.rank);
  const SumsTable<C, kWidth> table(g, geometry.shared.table * sizeof(C));
  table.Join(mine.plain, mine.with_xhat, place,
             [&](int lane, C plain, C with_xhat) { sums.Set(lane, plain, with_xhat); });
  sums.Join(constants);
  VisitLanes(place, [&](int lane) {
    const JoinedShares<C> shares = sums.shares(GroupOfLane(g, lane));
    constants.Set(kLaneXhat, lane, shares.with_xhat);
    constants.Set(kLaneAdded, lane, shares.added);
  });
  device::SyncBlock();
  if (place.count > 0) {
    WithActivation<true>(args.activation, [&](const auto& activation) {
      GradientBatch<T>(constants, place.column, params, activation, dy, x);
    });
    StoreBatch(static_cast<T*>(args.dx) + place.at, 0, place, x, args.stream);
  }
  // A block must not end while others of its cluster may still read its shared memory.
  if (geometry.cluster_bits > 0) device::SyncCluster();
}

}  // namespace cuda
}  // namespace fusednorm
