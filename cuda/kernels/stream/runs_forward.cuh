// Forward of `stream` over runs: contiguous groups that do not fit a block,
// channels_first or long rows.
#pragma once

#include <type_traits>

#include "cuda/kernels/common/affine.cuh"
#include "cuda/kernels/common/batch.cuh"
#include "cuda/kernels/lines/moments.cuh"
#include "cuda/kernels/stream/features.cuh"
#include "cuda/kernels/stream/queue.cuh"
#include "cuda/kernels/stream/run_slab.cuh"
#include "cuda/kernels/stream/statistics.cuh"

namespace fusednorm {
namespace cuda {

// gamma and beta of a thread's run, or of each of its accesses.
template <class T, int kWidth>
struct RunAffine {
  typedef typename Number<T>::Compute C;
  C gamma[kWidth], beta[kWidth];

  FUSEDNORM_DEVICE void SetRun(const NormArgs& args, int64_t param) {
    const C run_gamma = GammaAt<T>(args.affine, param);
    const C run_beta = BetaAt<T>(args.affine, param);
#pragma unroll
    for (int e = 0; e < kWidth; ++e) {
      gamma[e] = run_gamma;
      beta[e] = run_beta;
    }
  }
  FUSEDNORM_DEVICE void SetAccess(const NormArgs& args, int64_t param) {
    if (args.affine.gamma != nullptr) {
      LoadGamma<T, kWidth>(args.affine, param, gamma);
    }
    if (args.affine.beta != nullptr) {
      LoadParams<T, kWidth>(args.affine.beta, args.affine.narrow, param, beta);
    }
  }
};

template <class T, class Features>
struct RunsForward {
  typedef typename Number<T>::Compute C;
  static constexpr int kWidth = kWidthOf<T, Features>;
  static constexpr int kVectors = kStreamForwardVectors;
  typedef Pack<T, kWidth> P;
  typedef LaneMoments<T, kWidth, Features::kGeneral> Mine;

  const ForwardArgs& args;
  const RunStream& g;
  Queue& queue;

  FUSEDNORM_DEVICE int64_t Length() const { return g.runs * g.run; }
  // The offset of a thread's first access to a run, in the tensor.
  FUSEDNORM_DEVICE int64_t Offset(const Item& item, int run,
                                  const RunPlace<kWidth>& place) const {
    return item.set * Length() + run * g.run + place.at;
  }

  FUSEDNORM_DEVICE Mine PlainMoments(const Item& item,
                                     const RunPlace<kWidth>& place) const {
    const T* const x = static_cast<const T*>(args.x);
    P packs[kVectors];
    int run = place.first_run;
    const bool any = run < place.end_run && place.count > 0;
    if (any) LoadBatch(x + Offset(item, run, place), 0, place, packs);
    queue.LookAtNext();
    if (!any) return Mine(true);
    Mine mine(packs[0]);
    for (int j = 0;;) {
      mine.Add(packs, place.count - j);
      j += kVectors;
      if (j >= place.count) {
        j = 0;
        run += place.run_step;
        if (run >= place.end_run) return mine;
      }
      LoadBatch(x + Offset(item, run, place), j, place, packs);
    }
  }
  FUSEDNORM_DEVICE Mine GeneralMoments(const Item& item,
                                       const RunPlace<kWidth>& place) const {
    queue.LookAtNext();
    const bool masked = args.mask.positions != nullptr;
    const int64_t sample = masked ? args.mask.groups.Divide(item.set) : 0;
    Mine mine(args.centred);
    for (int run = place.first_run; run < place.end_run; run += place.run_step) {
#pragma unroll 1
      for (int j = 0; j < place.count; ++j) {
        const int64_t at = Offset(item, run, place) + j * place.step;
        P pack = P::LoadOnceFrom(static_cast<const T*>(args.x) + at);
        if (args.residual != nullptr) {
          pack = Sum<T, kWidth>(
              pack, P::LoadOnceFrom(static_cast<const T*>(args.residual) + at));
          pack.StoreTo(static_cast<T*>(args.sum) + at, false);
        }
        mine.AddKept(pack, Kept<kWidth>(args.mask, sample, at - item.set * Length()));
      }
    }
    return mine;
  }

  FUSEDNORM_DEVICE void Sums(const Item& item) const {
    const RunPlace<kWidth> place(g, item.slab);
    const auto join = [&](const Mine& mine) {
      const FoldedMoments<T, kWidth> folded(mine, kWidth);
      JoinBlock<T>(
          kQueueBytes, Features::Centred(args),
          [&](const auto& visit) {
            folded.template Visit<Features::kGeneral>(kWidth, visit);
          },
          [&](const Moments<C>& sum) {
            const int64_t at = item.set * g.order.slabs.divisor() + item.slab;
            PublishMoments(SlabSums(args, g.order), at, sum);
          });
    };
    if constexpr (Features::kGeneral) {
      join(GeneralMoments(item, place));
    } else {
      join(PlainMoments(item, place));
    }
  }

  FUSEDNORM_DEVICE void JoinSlabs(int64_t set) const {
    if (device::Thread() >= device::kWarp) return;
    const int slabs = static_cast<int>(g.order.slabs.divisor());
    const Moments<C> joined =
        JoinTeam<T>(device::kWarp, Features::Centred(args), [&](const auto& visit) {
#pragma unroll 4
          for (int slab = device::Thread(); slab < slabs; slab += device::kWarp) {
            visit(FetchMoments<C>(SlabSums(args, g.order), set * slabs + slab));
          }
        });
    if (device::Thread() == 0) PublishStatistics(args, joined, set);
  }

  FUSEDNORM_DEVICE void Apply(const Item& item) const {
    const RunPlace<kWidth> place(g, item.slab);
    const bool summed = Features::kGeneral && args.residual != nullptr;
    const T* const x = static_cast<const T*>(summed ? args.sum : args.x);
    T* const y = static_cast<T*>(args.y);
    int run = place.first_run;
    P packs[kVectors];
    const bool any = run < place.end_run && place.count > 0;
    if (any) LoadBatch(x + Offset(item, run, place), 0, place, packs);
    queue.LookAtNext();
    if (!any) return;
    const C mean = Features::Centred(args)
                       ? device::Fetch(static_cast<const C*>(args.mean) + item.set)
                       : C(0);
    const C rstd = device::Fetch(static_cast<const C*>(args.rstd) + item.set);
    const int64_t param = FirstParam(args.rows, item.set);
    // Parameters of each element have an instance of the loop of their own, because
    // they take registers and branches.
    const auto normalize = [&](const auto& activation, auto along) {
      constexpr bool kAlong = decltype(along)::value;
      RunAffine<T, kWidth> affine;
      affine.SetRun(args, kAlong ? 0 : param + run);
      for (int j = 0;;) {
        const int64_t offset = Offset(item, run, place);
#pragma unroll
        for (int v = 0; v < kVectors; ++v) {
          if (j + v >= place.count) continue;
          if constexpr (kAlong) {
            affine.SetAccess(args, param + place.at + (j + v) * place.step);
          }
          C values[kWidth];
          packs[v].Get(values);
          Normalize(mean, rstd, affine.gamma, affine.beta, values);
          activation.Forward(values);
          P::Of(values).StoreTo(y + offset + (j + v) * place.step, args.stream);
        }
        j += kVectors;
        if (j >= place.count) {
          j = 0;
          run += place.run_step;
          if (run >= place.end_run) return;
          if constexpr (!kAlong) affine.SetRun(args, param + run);
        }
        LoadBatch(x + Offset(item, run, place), j, place, packs);
      }
    };
    if (g.along) {
      // The plain instance has no activation here (plan/stream.cc).
      if constexpr (Features::kGeneral) {
        normalize(Called{args.activation}, std::true_type());
      } else {
        normalize(Inlined<NoActivation>(), std::true_type());
      }
      return;
    }
    WithActivation<Features::kGeneral>(args.activation, [&](const auto& activation) {
      normalize(activation, std::false_type());
    });
  }

  FUSEDNORM_DEVICE void Params(const Item&) const {}  // forward has no such items
};

template <class T, class Features>
FUSEDNORM_KERNEL(kStreamThreads, StreamBlocks(sizeof(T), false))
StreamRunsForward(const ForwardArgs args, const RunStream g) {
  Queue queue(g.order, args.partial);
  RunItems(RunsForward<T, Features>{args, g, queue}, queue);
}

}  // namespace cuda
}  // namespace fusednorm
