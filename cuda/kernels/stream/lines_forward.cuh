// Forward of `stream` over lines: interleaved groups and columns that do not fit a
// block.
#pragma once

#include "cuda/kernels/common/batch.cuh"
#include "cuda/kernels/lines/apply.cuh"
#include "cuda/kernels/lines/moments.cuh"
#include "cuda/kernels/stream/features.cuh"
#include "cuda/kernels/stream/line_slab.cuh"
#include "cuda/kernels/stream/queue.cuh"
#include "cuda/kernels/stream/statistics.cuh"

namespace fusednorm {
namespace cuda {

template <class T, class Features>
struct LinesForward {
  typedef typename Number<T>::Compute C;
  static constexpr int kWidth = kWidthOf<T, Features>;
  // Four accesses of 16-bit data would take more registers than there are.
  static constexpr int kVectors = sizeof(T) == 2 ? 3 : kStreamForwardVectors;
  typedef Pack<T, kWidth> P;
  typedef LaneMoments<T, kWidth, Features::kGeneral> Mine;

  const ForwardArgs& args;
  const LinesGeometry& g;
  const LineStream& stream;
  Queue& queue;

  FUSEDNORM_DEVICE Mine PlainMoments(const LinePlace<kWidth>& place) const {
    const T* const x = static_cast<const T*>(args.x) + place.at;
    P packs[kVectors];
    LoadBatch(x, 0, place, packs);
    queue.LookAtNext();
    Mine mine(packs, place.count);
    for (int j = 0; j < place.count;) {
      mine.Add(packs, place.count - j);
      j += kVectors;
      if (j < place.count) LoadBatch(x, j, place, packs);
    }
    return mine;
  }
  FUSEDNORM_DEVICE Mine GeneralMoments(const LineSet& set,
                                       const LinePlace<kWidth>& place) const {
    queue.LookAtNext();
    const bool masked = args.mask.positions != nullptr;
    Mine mine(args.centred);
#pragma unroll 1
    for (int j = 0; j < place.count; ++j) {
      const int64_t at = place.at + j * place.step;
      P pack = P::LoadOnceFrom(static_cast<const T*>(args.x) + at);
      if (args.residual != nullptr) {
        pack = Sum<T, kWidth>(
            pack, P::LoadOnceFrom(static_cast<const T*>(args.residual) + at));
        pack.StoreTo(static_cast<T*>(args.sum) + at, false);
      }
      mine.AddKept(pack, masked ? KeptOfAccess<kWidth>(args.mask, g, set, place, j)
                                : ~uint32_t{0});
    }
    return mine;
  }

  FUSEDNORM_DEVICE void Sums(const Item& item) const {
    const LineSet set(g, item.set);
    const LinePlace<kWidth> place = PlaceOfSlab<kWidth>(g, stream, set, item.slab);
    const auto join = [&](const Mine& mine) {
      const int64_t first =
          (item.set * stream.order.slabs.divisor() + item.slab) * g.tile_groups;
      const MomentsTable<T, kWidth, Features::kGeneral> table(g, kQueueBytes);
      table.Join(FoldedMoments<T, kWidth>(mine, g.fold), place, set.groups,
                 Features::Centred(args), [&](int group, const Moments<C>& sum) {
                   PublishMoments(SlabSums(args, stream.order), first + group, sum);
                 });
    };
    if constexpr (Features::kGeneral) {
      join(GeneralMoments(set, place));
    } else {
      join(PlainMoments(place));
    }
  }

  // A team of threads joins each group and shares its slabs.
  FUSEDNORM_DEVICE void JoinSlabs(int64_t of_set) const {
    const LineSet set(g, of_set);
    const int slabs = static_cast<int>(stream.order.slabs.divisor());
    const void* const partial = SlabSums(args, stream.order);
    const int team = 1 << stream.join_bits;
    const int member = device::Thread() & (team - 1);
    const int teams = device::Threads() >> stream.join_bits;
    for (int first = 0; first < set.groups; first += teams) {
      const int group = first + (device::Thread() >> stream.join_bits);
      const Moments<C> joined =
          JoinTeam<T>(team, Features::Centred(args), [&](const auto& visit) {
            if (group >= set.groups) return;
#pragma unroll 2
            for (int slab = member; slab < slabs; slab += team) {
              const int64_t at = of_set * slabs + slab;
              visit(FetchMoments<C>(partial, at * g.tile_groups + group));
            }
          });
      if (group >= set.groups || member != 0) continue;
      PublishStatistics(args, joined, set.first_group + group);
    }
  }

  FUSEDNORM_DEVICE void Apply(const Item& item) const {
    const LineSet set(g, item.set);
    const LinePlace<kWidth> place = PlaceOfSlab<kWidth>(g, stream, set, item.slab);
    const LaneConstants<C, kWidth> constants(g, kQueueBytes);
    const auto fill = [&] {
      for (int lane = device::Thread(); lane < place.lanes; lane += device::Threads()) {
        const int64_t group = set.first_group + GroupOfLane(g, lane);
        constants.Set(kLaneMean, lane,
                      Features::Centred(args)
                          ? device::Fetch(static_cast<const C*>(args.mean) + group)
                          : C(0));
        constants.Set(kLaneRstd, lane,
                      device::Fetch(static_cast<const C*>(args.rstd) + group));
        SetAffine<T>(args, g, set, place.first_lane, lane, constants);
      }
      queue.LookAtNext();
      device::SyncBlock();
    };
    if constexpr (Features::kGeneral) {
      fill();
      ApplyGeneral(set, place, constants);
    } else {
      const T* const x = static_cast<const T*>(args.x) + place.at;
      T* const y = static_cast<T*>(args.y) + place.at;
      P packs[kVectors];
      LoadBatch(x, 0, place, packs);
      fill();
      WithActivation<false>(args.activation, [&](const auto& activation) {
        for (int j = 0; j < place.count;) {
          NormalizeBatch<T>(constants, place.column,
                            LaneParams<C, kWidth>{constants, place.column}, activation,
                            packs);
          StoreBatch(y, j, place, packs, args.stream);
          j += kVectors;
          if (j < place.count) LoadBatch(x, j, place, packs);
        }
      });
    }
  }
  FUSEDNORM_DEVICE void Params(const Item&) const {}  // forward has no such items
  FUSEDNORM_DEVICE void ApplyGeneral(const LineSet& set, const LinePlace<kWidth>& place,
                                     const LaneConstants<C, kWidth>& constants) const {
    const bool summed = args.residual != nullptr;
    const T* const x = static_cast<const T*>(summed ? args.sum : args.x);
    C mean[kWidth], rstd[kWidth], values[kWidth];
    if (place.count > 0) {
      constants.GetAll(kLaneMean, place.column, mean);
      constants.GetAll(kLaneRstd, place.column, rstd);
    }
#pragma unroll 1
    for (int j = 0; j < place.count; ++j) {
      const int64_t at = place.at + j * place.step;
      const int64_t row = place.first_row + int64_t{j} * g.thread_rows.divisor();
      P::LoadOnceFrom(x + at).Get(values);
      const LineAffine<T, kWidth> affine(args, g, set, constants, place.column, row,
                                         at);
      Normalize(mean, rstd, affine.gamma, affine.beta, values);
      Activate(args.activation, values);
      P::Of(values).StoreTo(static_cast<T*>(args.y) + at, args.stream);
    }
  }
};

template <class T, class Features>
FUSEDNORM_KERNEL(kStreamThreads, StreamBlocks(sizeof(T), false))
StreamLinesForward(const ForwardArgs args, const LinesGeometry g,
                   const LineStream stream) {
  Queue queue(stream.order, args.partial);
  RunItems(LinesForward<T, Features>{args, g, stream, queue}, queue);
}

}  // namespace cuda
}  // namespace fusednorm
