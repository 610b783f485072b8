// Backward of channels_first groups of several channels: a row is K runs of Q elements,
// each with one gamma and beta. Teams of lanes take runs, or pieces of long ones, so
// that dgamma and dbeta need no more than a sum over the team.
#pragma once

#include "cuda/kernels/common/gradient.cuh"
#include "cuda/kernels/common/moments.cuh"
#include "cuda/kernels/runs/geometry.h"
#include "cuda/kernels/runs/units.cuh"

namespace fusednorm {
namespace cuda {

// kResident: the row stays in shared memory, of a block or a cluster, and dx is written
// from there. Otherwise a block sums one slice, for SplitRowsGradient.
template <class T, int kWidth, bool kResident>
FUSEDNORM_KERNEL(kRunsThreads, 1)
RunsBackward(const BackwardArgs args) {
  typedef typename Number<T>::Compute C;
  typedef Pack<T, kWidth> P;
  BlockTeam<C> team(args);
  const int64_t slices = args.slices.divisor();  // blocks of the cluster, if resident
  const int64_t row = args.slices.Divide(device::Block());
  const int64_t slice = device::Block() - row * slices;
  const RunUnits<kWidth> units(args, slice, args.slices);
  const device::Shared<typename P::Stored> shared(BlockTeam<C>::kSharedBytes);
  const auto slot = [&](int round, int j, int which) {
    return ((round * units.accesses + j) * 2 + which) * device::Threads() +
           device::Thread();
  };

  const int64_t base = row * args.rows.length;
  const int64_t n = args.rows.g.Divide(row);
  const int64_t param = (row - n * args.rows.g.divisor()) * args.rows.k;
  const int64_t params = args.rows.g.divisor() * args.rows.k;
  const C mean =
      args.centred ? device::Load(static_cast<const C*>(args.mean) + row) : C(0);
  const C rstd = device::Load(static_cast<const C*>(args.rstd) + row);

  C plain = 0, with_xhat = 0;
  units.ForEach(
      args, [&](int64_t unit, int64_t run, int64_t begin, int64_t end, int round) {
        C gamma[kWidth], beta[kWidth];
        const bool valid = end > 0;
        const C one_gamma = valid ? GammaAt<T>(args.affine, param + run) : C(0);
        const C one_beta = valid ? BetaAt<T>(args.affine, param + run) : C(0);
#pragma unroll
        for (int e = 0; e < kWidth; ++e) {
          gamma[e] = one_gamma;
          beta[e] = one_beta;
        }
        C dgamma = 0, dbeta = 0;
#pragma unroll 2
        for (int j = 0; j < units.accesses; ++j) {
          const int64_t i = begin + j * (units.lanes * kWidth);
          if (i >= end) break;
          const P x = P::LoadFrom(static_cast<const T*>(args.x) + base + i);
          const P dy = P::LoadFrom(static_cast<const T*>(args.dy) + base + i);
          if constexpr (kResident) {
            shared.Set(slot(round, j, 0), x.stored);
            shared.Set(slot(round, j, 1), dy.stored);
          }
          C xhat[kWidth], dz[kWidth];
          x.Get(xhat);
          dy.Get(dz);
          Differentiate(args, mean, rstd, gamma, beta, xhat, dz);
#pragma unroll
          for (int e = 0; e < kWidth; ++e) {
            dbeta += dz[e];
            dgamma += dz[e] * xhat[e];
          }
        }
        dbeta = LaneSum(dbeta, units.lanes);
        dgamma = LaneSum(dgamma, units.lanes);
        if (units.lane != 0 || !valid) return;
        plain += one_gamma * dbeta;
        with_xhat += one_gamma * dgamma;
        const int64_t piece = unit - run * args.pieces.divisor();
        const int64_t to = (n * args.pieces.divisor() + piece) * params + param + run;
        if (args.params.gamma != nullptr) {
          device::Store(static_cast<C*>(args.params.gamma) + to, dgamma);
        }
        if (args.params.beta != nullptr) {
          device::Store(static_cast<C*>(args.params.beta) + to, dbeta);
        }
      });
  team.Sum(&plain, &with_xhat);
  if constexpr (!kResident) {
    if (device::Thread() == 0) {
      StoreSums(args.partial, row * slices + slice, plain, with_xhat);
    }
  } else {
    const Correction<C> by =
        CorrectionOf<C>(args, plain, with_xhat, rstd, args.dmean, args.drstd, row,
                        static_cast<C>(args.inverse_count));
    units.ForEach(
        args, [&](int64_t, int64_t run, int64_t begin, int64_t end, int round) {
          if (end == 0) return;
          C gamma[kWidth], beta[kWidth];
          const C one_gamma = GammaAt<T>(args.affine, param + run);
          const C one_beta = BetaAt<T>(args.affine, param + run);
#pragma unroll
          for (int e = 0; e < kWidth; ++e) {
            gamma[e] = one_gamma;
            beta[e] = one_beta;
          }
#pragma unroll 2
          for (int j = 0; j < units.accesses; ++j) {
            const int64_t i = begin + j * (units.lanes * kWidth);
            if (i >= end) break;
            const P x = {shared.Get(slot(round, j, 0))};
            const P dy = {shared.Get(slot(round, j, 1))};
            WriteGradient<T, kWidth, C>(args, mean, rstd, gamma, beta, by.plain,
                                        by.with_xhat, by.offset, x, dy, base + i);
          }
        });
    team.Finish();
  }
}

}  // namespace cuda
}  // namespace fusednorm
