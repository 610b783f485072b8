// Backward of `stream` over lines: interleaved groups and columns that do not fit a
// block.
#pragma once

#include "cuda/kernels/common/batch.cuh"
#include "cuda/kernels/common/team.cuh"
#include "cuda/kernels/lines/apply.cuh"
#include "cuda/kernels/lines/param_gradients.cuh"
#include "cuda/kernels/lines/sums.cuh"
#include "cuda/kernels/stream/features.cuh"
#include "cuda/kernels/stream/line_slab.cuh"
#include "cuda/kernels/stream/queue.cuh"
#include "cuda/kernels/stream/statistics.cuh"

namespace fusednorm {
namespace cuda {

template <class T, class Features>
struct LinesBackward {
  typedef typename Number<T>::Compute C;
  static constexpr int kWidth = kWidthOf<T, Features>;
  static constexpr int kVectors = kStreamBackwardVectors;
  typedef Pack<T, kWidth> P;

  const BackwardArgs& args;
  const LinesGeometry& g;
  const LineStream& stream;
  Queue& queue;

  // For interleaved groups, gamma is multiplied into the sums later, because dgamma and
  // dbeta need the sums without it.
  FUSEDNORM_DEVICE bool GammaWaits() const {
    return !Features::kGeneral || (!g.columns && !g.positions);
  }
  // Fills the constants of the lanes. `apply`: with the shares of their groups, which
  // Sums does not need.
  FUSEDNORM_DEVICE void Fill(const LineSet& set, const LinePlace<kWidth>& place,
                             bool apply,
                             const LaneConstants<C, kWidth>& constants) const {
    for (int lane = device::Thread(); lane < place.lanes; lane += device::Threads()) {
      const int64_t group = set.first_group + GroupOfLane(g, lane);
      constants.Set(kLaneMean, lane,
                    Features::Centred(args)
                        ? device::Load(static_cast<const C*>(args.mean) + group)
                        : C(0));
      constants.Set(kLaneRstd, lane,
                    device::Load(static_cast<const C*>(args.rstd) + group));
      SetAffine<T>(args, g, set, place.first_lane, lane, constants);
      if (!apply) continue;
      const JoinedShares<C> shares =
          FetchShares(SharesIn<C>(args, stream.order), group);
      constants.Set(kLaneXhat, lane, shares.with_xhat);
      constants.Set(kLaneAdded, lane, shares.added);
    }
    queue.LookAtNext();
    device::SyncBlock();
  }

  FUSEDNORM_DEVICE void Sums(const Item& item) const {
    const LineSet set(g, item.set);
    const LinePlace<kWidth> place = PlaceOfSlab<kWidth>(g, stream, set, item.slab);
    const LaneConstants<C, kWidth> constants(g, kQueueBytes);
    LaneSums<C, kWidth> sums;
    if constexpr (Features::kGeneral) {
      Fill(set, place, false, constants);
      SumsGeneral(set, place, constants, &sums);
    } else {
      const T* const x = static_cast<const T*>(args.x) + place.at;
      const T* const dy = static_cast<const T*>(args.dy) + place.at;
      P of_x[kVectors], of_dy[kVectors];
      LoadBatch(x, 0, place, of_x);
      LoadBatch(dy, 0, place, of_dy);
      Fill(set, place, false, constants);
      WithActivation<false>(args.activation, [&](const auto& activation) {
        for (int j = 0; j < place.count;) {
          AddBatch<T>(constants, place.column,
                      LaneParams<C, kWidth>{constants, place.column}, activation, of_x,
                      of_dy, place.count - j, &sums);
          j += kVectors;
          if (j >= place.count) break;
          LoadBatch(x, j, place, of_x);
          LoadBatch(dy, j, place, of_dy);
        }
      });
    }
    device::SyncBlock();  // the constants are no longer read
    const SumsTable<C, kWidth> table(g, kQueueBytes);
    const int64_t first = AtOfSlab(item.set, item.slab);
    table.Join(sums.plain, sums.with_xhat, place, [&](int lane, C plain, C with_xhat) {
      PublishSums(SlabSums(args, stream.order), first + lane, plain, with_xhat);
    });
  }
  FUSEDNORM_DEVICE int64_t AtOfSlab(int64_t set, int slab) const {
    return (set * stream.order.slabs.divisor() + slab) * g.part_lanes;
  }

  FUSEDNORM_DEVICE void SumsGeneral(const LineSet& set, const LinePlace<kWidth>& place,
                                    const LaneConstants<C, kWidth>& constants,
                                    LaneSums<C, kWidth>* sums) const {
    const bool row_params =
        g.columns && !g.positions &&
        (args.params.gamma != nullptr || args.params.beta != nullptr);
    // All threads of a row make the same number of rounds, because they meet in its
    // sums.
    const int rounds = row_params ? place.rounds : place.count;
#pragma unroll 1
    for (int j = 0; j < rounds; ++j) {
      const bool has = j < place.count;
      const int64_t at = place.at + j * place.step;
      const int64_t row = place.first_row + int64_t{j} * g.thread_rows.divisor();
      C of_gamma = 0, of_beta = 0;
      if (has) {
        C xhat[kWidth], dz[kWidth];
        P::LoadOnceFrom(static_cast<const T*>(args.x) + at).Get(xhat);
        P::LoadOnceFrom(static_cast<const T*>(args.dy) + at).Get(dz);
        const LineAffine<T, kWidth> affine(args, g, set, constants, place.column, row,
                                           at);
        C mean[kWidth], rstd[kWidth];
        constants.GetAll(kLaneMean, place.column, mean);
        constants.GetAll(kLaneRstd, place.column, rstd);
        Differentiate(args, mean, rstd, affine.gamma, affine.beta, xhat, dz);
        if (g.positions) {
          StoreParamGradients<T, kWidth>(args.params, at, xhat, dz, args.stream);
        }
#pragma unroll
        for (int e = 0; e < kWidth; ++e) {
          const FirstOrderSums<C> of_params = FirstOrderTerms(dz[e], xhat[e]);
          of_beta += of_params.plain;
          of_gamma += of_params.with_xhat;
          const C term = GammaWaits() ? dz[e] : dz[e] * affine.gamma[e];
          const FirstOrderSums<C> of_group = FirstOrderTerms(term, xhat[e]);
          sums->plain[e] += of_group.plain;
          sums->with_xhat[e] += of_group.with_xhat;
        }
      }
      if (!row_params) continue;
      PublishRowParam(args.params.gamma, g, set, place, row, has, of_gamma);
      PublishRowParam(args.params.beta, g, set, place, row, has, of_beta);
    }
  }

  // A team of threads joins each group and shares the group's lanes. The lower bits of
  // a thread's number choose the slabs of a lane. If there is one group, the whole
  // block is its team.
  FUSEDNORM_DEVICE void JoinSlabs(int64_t of_set) const {
    const LineSet set(g, of_set);
    const bool one = g.tile_groups == 1;
    const int row_team = 1 << stream.join_row_bits;
    const int team = one ? device::kWarp : row_team << stream.join_bits;
    const int lane_step = (one ? device::Threads() : team) >> stream.join_row_bits;
    const int member = one ? device::Thread() : device::Thread() & (team - 1);
    const int teams = one ? 1 : device::Threads() / team;
    for (int first = 0; first < set.groups; first += teams) {
      const int group = first + (one ? 0 : device::Thread() / team);
      C plain = 0, with_xhat = 0;
      const int lanes = LanesOfGroup(set);
      for (int begin = 0; begin < lanes; begin += lane_step) {
        const int lane = begin + (member >> stream.join_row_bits);
        const bool has = lane < lanes && group < set.groups;
        JoinLane(of_set, set, group, lane, has, member & (row_team - 1), &plain,
                 &with_xhat);
      }
      plain = LaneSum(plain, team);
      with_xhat = LaneSum(with_xhat, team);
      if (one) SumWarps(kQueueBytes, 0, &plain, &with_xhat);
      if (member == 0 && group < set.groups) {
        PublishShares(args, {plain, with_xhat}, set.first_group + group,
                      SharesIn<C>(args, stream.order));
      }
    }
  }
  // The number of lanes that a group has in one copy of the line.
  FUSEDNORM_DEVICE int LanesOfGroup(const LineSet& set) const {
    if (g.columns) return 1;
    return g.parts.divisor() > 1 ? set.lanes : g.group_lanes.divisor();
  }

  // Adds up the sums of one lane over all slabs. The thread with member == 0 adds the
  // result to its sums of the group.
  FUSEDNORM_DEVICE void JoinLane(int64_t of_set, const LineSet& set, int group,
                                 int lane, bool has, int member, C* plain,
                                 C* with_xhat) const {
    const int row_team = 1 << stream.join_row_bits;
    const int parts = g.parts.divisor();
    // The parts of a turn are next to each other, so that this index runs on over them.
    const int of_tile = group * LanesOfGroup(set) + lane;
    C a = 0, b = 0;
    if (has) {
      for (int copy = 0; copy < g.copies; ++copy) {
        const int at = of_tile + copy * g.copy_lanes.divisor();
#pragma unroll 4
        for (int turn = member; turn < stream.turns; turn += row_team) {
          const FirstOrderSums<C> sums = FetchSums<C>(
              SlabSums(args, stream.order), AtOfSlab(of_set, turn * parts) + at);
          a += sums.plain;
          b += sums.with_xhat;
        }
      }
    }
    a = LaneSum(a, row_team);
    b = LaneSum(b, row_team);
    if (!has || member != 0) return;
    C gamma = 1;
    if (GammaWaits()) {
      gamma = GammaAt<T>(args.affine, ParamOfLane(g, set, set.first_lane, of_tile));
      const int64_t unit = UnitOfParams(g, set.outer, 1, 0);
      const int64_t at = unit * (g.line / g.copies) + set.first_lane + of_tile;
      if (args.params.gamma != nullptr) {
        device::Publish(static_cast<C*>(args.params.gamma) + at, b);
      }
      if (args.params.beta != nullptr) {
        device::Publish(static_cast<C*>(args.params.beta) + at, a);
      }
    }
    const FirstOrderSums<C> of_lane = Weighted(FirstOrderSums<C>{a, b}, gamma);
    *plain += of_lane.plain;
    *with_xhat += of_lane.with_xhat;
  }

  FUSEDNORM_DEVICE void Apply(const Item& item) const {
    const LineSet set(g, item.set);
    const LinePlace<kWidth> place = PlaceOfSlab<kWidth>(g, stream, set, item.slab);
    const LaneConstants<C, kWidth> constants(g, kQueueBytes);
    if constexpr (Features::kGeneral) {
      Fill(set, place, true, constants);
      ApplyGeneral(set, place, constants);
    } else {
      const T* const x = static_cast<const T*>(args.x) + place.at;
      const T* const dy = static_cast<const T*>(args.dy) + place.at;
      T* const dx = static_cast<T*>(args.dx) + place.at;
      P of_x[kVectors], of_dy[kVectors];
      LoadBatch(x, 0, place, of_x);
      LoadBatch(dy, 0, place, of_dy);
      Fill(set, place, true, constants);
      WithActivation<false>(args.activation, [&](const auto& activation) {
        for (int j = 0; j < place.count;) {
          GradientBatch<T>(constants, place.column,
                           LaneParams<C, kWidth>{constants, place.column}, activation,
                           of_dy, of_x);
          StoreBatch(dx, j, place, of_x, args.stream);
          j += kVectors;
          if (j >= place.count) break;
          LoadBatch(x, j, place, of_x);
          LoadBatch(dy, j, place, of_dy);
        }
      });
    }
  }
  FUSEDNORM_DEVICE void ApplyGeneral(const LineSet& set, const LinePlace<kWidth>& place,
                                     const LaneConstants<C, kWidth>& constants) const {
    C mean[kWidth], rstd[kWidth], by_xhat[kWidth], added[kWidth];
    if (place.count > 0) {
      constants.GetAll(kLaneMean, place.column, mean);
      constants.GetAll(kLaneRstd, place.column, rstd);
      constants.GetAll(kLaneXhat, place.column, by_xhat);
      constants.GetAll(kLaneAdded, place.column, added);
    }
#pragma unroll 1
    for (int j = 0; j < place.count; ++j) {
      const int64_t at = place.at + j * place.step;
      const int64_t row = place.first_row + int64_t{j} * g.thread_rows.divisor();
      C xhat[kWidth], dz[kWidth];
      P::LoadOnceFrom(static_cast<const T*>(args.x) + at).Get(xhat);
      P::LoadOnceFrom(static_cast<const T*>(args.dy) + at).Get(dz);
      const LineAffine<T, kWidth> affine(args, g, set, constants, place.column, row,
                                         at);
      Differentiate(args, mean, rstd, affine.gamma, affine.beta, xhat, dz);
      WriteGradient<T, kWidth>(args, rstd, affine.gamma, by_xhat, added, xhat, dz, at,
                               KeptOfAccess<kWidth>(args.mask, g, set, place, j));
    }
  }

  FUSEDNORM_DEVICE void Params(const Item& item) const {
    SumParamsOfItem<T>(args.params, stream.order, item);
  }
};

template <class T, class Features>
FUSEDNORM_KERNEL(kStreamThreads, StreamBlocks(sizeof(T), Features::kGeneral))
StreamLinesBackward(const BackwardArgs args, const LinesGeometry g,
                    const LineStream stream) {
  Queue queue(stream.order, args.partial);
  RunItems(LinesBackward<T, Features>{args, g, stream, queue}, queue);
}

}  // namespace cuda
}  // namespace fusednorm
