// Forward of `tile`: x is loaded once, into registers. A block joins its sums in its
// shared memory, and a cluster in that of all its blocks.
#pragma once

#include "cuda/kernels/common/batch.cuh"
#include "cuda/kernels/common/statistics.cuh"
#include "cuda/kernels/lines/apply.cuh"
#include "cuda/kernels/lines/moments.cuh"
#include "cuda/kernels/tile/features.cuh"
#include "cuda/kernels/tile/place.cuh"

namespace fusednorm {
namespace cuda {

// mean and rstd of the groups of a set, which are joined from the moments of each block
// of the cluster. Shared memory holds two numbers for each group.
template <class T>
class TileStatistics {
 public:
  typedef typename Number<T>::Compute C;

  FUSEDNORM_DEVICE TileStatistics(const ForwardArgs& args, const TileGeometry& geometry,
                                  const LineSet& set, int rank)
      : args_(args),
        cluster_bits_(geometry.cluster_bits),
        rank_(rank),
        set_(set),
        own_(geometry.shared.own * int64_t{sizeof(C)}),
        joined_(geometry.shared.joined * int64_t{sizeof(C)}) {}

  // Sets the moments of a group in this block. One thread calls for each group.
  FUSEDNORM_DEVICE void Set(int group, const Moments<C>& moments) const {
    if (cluster_bits_ == 0) {
      Finish(group, moments);
    } else {
      SetMoments(own_, kMomentsNumbers * group, moments);
    }
  }
  // All threads must call, after Set.
  FUSEDNORM_DEVICE void Join() const {
    if (cluster_bits_ > 0) {
      device::SyncCluster();
      JoinCluster();
    }
    device::SyncBlock();
  }
  FUSEDNORM_DEVICE C mean(int group) const { return joined_.Get(2 * group); }
  FUSEDNORM_DEVICE C rstd(int group) const { return joined_.Get(2 * group + 1); }

 private:
  // Neighbouring threads take the moments that the blocks of the cluster have of a
  // group.
  FUSEDNORM_DEVICE void JoinCluster() const {
    const int cluster = 1 << cluster_bits_;
    const int member = device::Thread() & (cluster - 1);
    const int teams = device::Threads() >> cluster_bits_;
#pragma unroll 1
    for (int first = 0; first < set_.groups; first += teams) {
      const int group = first + (device::Thread() >> cluster_bits_);
      const bool has = group < set_.groups;
      const Moments<C> own =
          has ? GetMomentsFrom(own_, member, kMomentsNumbers * group) : Moments<C>();
      const Moments<C> joined = JoinTeam<T>(cluster, true, [&](const auto& visit) {
        if (has) visit(own);
      });
      if (has && member == 0) Finish(group, joined);
    }
  }
  FUSEDNORM_DEVICE void Finish(int group, const Moments<C>& moments) const {
    const Statistics<C> statistics =
        StatisticsOf(args_, moments, static_cast<C>(args_.inverse_count));
    joined_.Set(2 * group, statistics.mean);
    joined_.Set(2 * group + 1, statistics.rstd);
    if (rank_ != 0) return;
    device::Store(static_cast<C*>(args_.mean) + set_.first_group + group,
                  statistics.mean);
    device::Store(static_cast<C*>(args_.rstd) + set_.first_group + group,
                  statistics.rstd);
  }

  const ForwardArgs& args_;
  const int cluster_bits_, rank_;
  const LineSet& set_;
  const device::Shared<C> own_, joined_;
};

template <class T, int kVectors, class Features>
FUSEDNORM_KERNEL(kTileThreads, 1)
TileForward(const ForwardArgs args, const TileGeometry geometry) {
  typedef typename Number<T>::Compute C;
  constexpr int kWidth = kWidthOf<T, Features>;
  const LinesGeometry& g = geometry.lines;
  const TileBlock block(geometry);
  const LineSet& set = block.set;
  const LinePlace<kWidth> place(g, set, 0, block.begin, block.end);
  Pack<T, kWidth> packs[kVectors];
  LoadBatch(static_cast<const T*>(args.x) + place.at, 0, place, packs);

  // gamma and beta are requested before anything waits for x.
  const LaneConstants<C, kWidth> constants(g, 0);
  const auto params =
      ParamsOfTile<T, kVectors, Features>(args, g, set, place, constants);
  if constexpr (!Features::kColumns) {
    VisitLanes(place, [&](int lane) {
      SetAffine<T>(args, g, set, place.first_lane, lane, constants);
    });
  }
  LaneMoments<T, kWidth, false> mine(packs, place.count);
  mine.Add(packs, place.count);
  const TileStatistics<T> statistics(args, geometry, set, block.rank);
  const MomentsTable<T, kWidth, false> table(g, geometry.shared.table * sizeof(C));
  table.Join(
      FoldedMoments<T, kWidth>(mine, g.fold), place, set.groups, true,
      [&](int group, const Moments<C>& moments) { statistics.Set(group, moments); });
  statistics.Join();
  VisitLanes(place, [&](int lane) {
    const int group = GroupOfLane(g, lane);
    constants.Set(kLaneMean, lane, statistics.mean(group));
    constants.Set(kLaneRstd, lane, statistics.rstd(group));
  });
  device::SyncBlock();
  if (place.count > 0) {
    WithActivation<true>(args.activation, [&](const auto& activation) {
      NormalizeBatch<T>(constants, place.column, params, activation, packs);
    });
    StoreBatch(static_cast<T*>(args.y) + place.at, 0, place, packs, args.stream);
  }
  // A block must not end while others of its cluster may still read its shared memory.
  if (geometry.cluster_bits > 0) device::SyncCluster();
}

}  // namespace cuda
}  // namespace fusednorm
