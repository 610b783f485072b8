// Backward of `stream` over runs: contiguous groups, each of whose runs has one gamma
// and beta.
#pragma once

#include "cuda/kernels/common/affine.cuh"
#include "cuda/kernels/common/batch.cuh"
#include "cuda/kernels/common/team.cuh"
#include "cuda/kernels/lines/param_gradients.cuh"
#include "cuda/kernels/stream/features.cuh"
#include "cuda/kernels/stream/queue.cuh"
#include "cuda/kernels/stream/run_slab.cuh"
#include "cuda/kernels/stream/statistics.cuh"

namespace fusednorm {
namespace cuda {

template <class T, class Features>
struct RunsBackward {
  typedef typename Number<T>::Compute C;
  static constexpr int kWidth = kWidthOf<T, Features>;
  static constexpr int kVectors = kStreamBackwardVectors;
  typedef Pack<T, kWidth> P;

  const BackwardArgs& args;
  const RunStream& g;
  Queue& queue;

  // The numbers that the elements of a run need.
  struct Constants {
    C mean, rstd, gamma, beta;
  };
  FUSEDNORM_DEVICE Constants OfSet(int64_t set) const {
    return {Features::Centred(args)
                ? device::Load(static_cast<const C*>(args.mean) + set)
                : C(0),
            device::Load(static_cast<const C*>(args.rstd) + set), C(1), C(0)};
  }
  // Sets gamma and beta of a run, which are number `param`.
  FUSEDNORM_DEVICE void SetRun(int64_t param, Constants* by) const {
    by->gamma = GammaAt<T>(args.affine, param);
    by->beta = BetaAt<T>(args.affine, param);
  }
  // xhat and dz are x and dy on entry.
  template <class Act>
  FUSEDNORM_DEVICE static void Differentiate(const Constants& by, const Act& activation,
                                             C (&xhat)[kWidth], C (&dz)[kWidth]) {
    Center(by.mean, by.rstd, xhat);
    if constexpr (!Act::kIsIdentity) {
      C z[kWidth];
#pragma unroll
      for (int e = 0; e < kWidth; ++e) z[e] = ZOf(xhat[e], by.gamma, by.beta);
      activation.Backward(z, dz);
    }
  }
  FUSEDNORM_DEVICE int64_t Offset(int64_t set, int run,
                                  const RunPlace<kWidth>& place) const {
    return (set * g.runs + run) * g.run + place.at;
  }
  // The index of the sums of a piece of a run, among those of all sets.
  FUSEDNORM_DEVICE int64_t AtOfRun(int64_t set, int run, int piece) const {
    return (set * g.runs + run) * g.pieces.divisor() + piece;
  }

  FUSEDNORM_DEVICE void Sums(const Item& item) const {
    const RunPlace<kWidth> place(g, item.slab);
    const T* const x = static_cast<const T*>(args.x);
    const T* const dy = static_cast<const T*>(args.dy);
    P of_x[kVectors], of_dy[kVectors];
    const auto load = [&](int run, int j) {
      if (run >= place.end_run) return;
      LoadBatch(x + Offset(item.set, run, place), j, place, of_x);
      LoadBatch(dy + Offset(item.set, run, place), j, place, of_dy);
    };
    load(place.first_run, 0);
    queue.LookAtNext();
    WithActivation<Features::kGeneral>(args.activation, [&](const auto& activation) {
      // All threads make the same number of rounds, because they meet in the sums of a
      // run.
      const int first = place.first_run, team = 1 << g.team_bits;
      const int rounds = place.Rounds(g, item.slab);
      const int64_t param = FirstParam(args.rows, item.set);
      Constants by = OfSet(item.set);
      for (int round = 0; round < rounds; ++round) {
        const int run = first + round * place.run_step;
        const bool has = run < place.end_run;
        C plain = 0, with_xhat = 0;
        if (has) SetRun(param + run, &by);
        for (int j = 0; has && j < place.count;) {
#pragma unroll
          for (int v = 0; v < kVectors; ++v) {
            if (j + v >= place.count) continue;
            C xhat[kWidth], dz[kWidth], products[kWidth];
            of_x[v].Get(xhat);
            of_dy[v].Get(dz);
            Differentiate(by, activation, xhat, dz);
#pragma unroll
            for (int e = 0; e < kWidth; ++e) {
              products[e] = FirstOrderTerms(dz[e], xhat[e]).with_xhat;
            }
            plain += PairwiseSum(dz);
            with_xhat += PairwiseSum(products);
          }
          j += kVectors;
          if (j < place.count) load(run, j);
        }
        load(run + place.run_step, 0);
        const int lanes = team < device::kWarp ? team : device::kWarp;
        plain = LaneSum(plain, lanes);
        with_xhat = LaneSum(with_xhat, lanes);
        if (team > device::kWarp) {
          device::SyncBlock();  // the sums before may still be read
          SumWarps(kQueueBytes, team / device::kWarp, &plain, &with_xhat);
        }
        if (!has || (device::Thread() & (team - 1)) != 0) continue;
        PublishSums(SlabSums(args, g.order), AtOfRun(item.set, run, place.piece), plain,
                    with_xhat);
      }
    });
  }

  // A team of threads joins each run and shares its pieces.
  FUSEDNORM_DEVICE void JoinSlabs(int64_t set) const {
    const int team = 1 << g.join_row_bits;
    const int member = device::Thread() & (team - 1);
    const int teams = device::Threads() >> g.join_row_bits;
    C plain = 0, with_xhat = 0;
    for (int first = 0; first < g.runs; first += teams) {
      const int run = first + (device::Thread() >> g.join_row_bits);
      C a = 0, b = 0;
      if (run < g.runs) {
#pragma unroll 4
        for (int piece = member; piece < g.pieces.divisor(); piece += team) {
          const FirstOrderSums<C> sums =
              FetchSums<C>(SlabSums(args, g.order), AtOfRun(set, run, piece));
          a += sums.plain;
          b += sums.with_xhat;
        }
      }
      a = LaneSum(a, team);
      b = LaneSum(b, team);
      if (run >= g.runs || member != 0) continue;
      const int64_t at = set * g.runs + run;
      if (args.params.gamma != nullptr) {
        device::Publish(static_cast<C*>(args.params.gamma) + at, b);
      }
      if (args.params.beta != nullptr) {
        device::Publish(static_cast<C*>(args.params.beta) + at, a);
      }
      const C gamma = GammaAt<T>(args.affine, FirstParam(args.rows, set) + run);
      const FirstOrderSums<C> of_run = Weighted(FirstOrderSums<C>{a, b}, gamma);
      plain += of_run.plain;
      with_xhat += of_run.with_xhat;
    }
    plain = LaneSum(plain, device::kWarp);
    with_xhat = LaneSum(with_xhat, device::kWarp);
    SumWarps(kQueueBytes, 0, &plain, &with_xhat);
    if (device::Thread() == 0) {
      PublishShares(args, {plain, with_xhat}, set, SharesIn<C>(args, g.order));
    }
  }

  FUSEDNORM_DEVICE void Apply(const Item& item) const {
    const RunPlace<kWidth> place(g, item.slab);
    const T* const x = static_cast<const T*>(args.x);
    const T* const dy = static_cast<const T*>(args.dy);
    P of_x[kVectors], of_dy[kVectors];
    const auto load = [&](int run, int j) {
      LoadBatch(x + Offset(item.set, run, place), j, place, of_x);
      LoadBatch(dy + Offset(item.set, run, place), j, place, of_dy);
    };
    int run = place.first_run;
    const bool any = run < place.end_run && place.count > 0;
    if (any) load(run, 0);
    queue.LookAtNext();
    if (!any) return;
    const JoinedShares<C> shares = FetchShares(SharesIn<C>(args, g.order), item.set);
    const int64_t sample =
        args.mask.positions == nullptr ? 0 : args.mask.groups.Divide(item.set);
    WithActivation<Features::kGeneral>(args.activation, [&](const auto& activation) {
      const int64_t param = FirstParam(args.rows, item.set);
      Constants by = OfSet(item.set);
      SetRun(param + run, &by);
      for (int j = 0;;) {
        const int64_t offset = Offset(item.set, run, place);
        C gamma[kWidth];
#pragma unroll
        for (int e = 0; e < kWidth; ++e) gamma[e] = by.gamma;
#pragma unroll
        for (int v = 0; v < kVectors; ++v) {
          if (j + v >= place.count) continue;
          C xhat[kWidth], dz[kWidth];
          of_x[v].Get(xhat);
          of_dy[v].Get(dz);
          Differentiate(by, activation, xhat, dz);
          const int64_t at = offset + (j + v) * place.step;
          if constexpr (Features::kGeneral) {
            const uint32_t kept =
                Kept<kWidth>(args.mask, sample, at - item.set * (g.runs * g.run));
            WriteGradient<T, kWidth>(args, by.rstd, gamma, shares.with_xhat,
                                     shares.added, xhat, dz, at, kept);
          } else {
#pragma unroll
            for (int e = 0; e < kWidth; ++e) {
              dz[e] = DxOf(dz[e], by.gamma, xhat[e], by.rstd, shares);
            }
            P::Of(dz).StoreTo(static_cast<T*>(args.dx) + at, args.stream);
          }
        }
        j += kVectors;
        if (j >= place.count) {
          j = 0;
          run += place.run_step;
          if (run >= place.end_run) return;
          SetRun(param + run, &by);
        }
        load(run, j);
      }
    });
  }

  FUSEDNORM_DEVICE void Params(const Item& item) const {
    SumParamsOfItem<T>(args.params, g.order, item);
  }
};

template <class T, class Features>
FUSEDNORM_KERNEL(kStreamThreads, StreamBlocks(sizeof(T), false))
StreamRunsBackward(const BackwardArgs args, const RunStream g) {
  Queue queue(g.order, args.partial);
  RunItems(RunsBackward<T, Features>{args, g, queue}, queue);
}

}  // namespace cuda
}  // namespace fusednorm
