// Second order of channels_first groups: a row is K runs of Q elements, each with one
// gamma. Teams of lanes take runs, or pieces of long ones, as in the `runs` scheme, and
// blocks one slice of every args.slots-th row.
#pragma once

#include "cuda/kernels/runs/units.cuh"
#include "cuda/kernels/second_order/limits.h"
#include "cuda/kernels/second_order/sums.cuh"

namespace fusednorm {
namespace cuda {

// kGradient: the second of the two kernels.
template <class T, int kWidth, bool kGradient>
FUSEDNORM_KERNEL(kSecondOrderThreads, 1)
SecondOrderRuns(const SecondOrderArgs args) {
  typedef typename Number<T>::Compute C;
  const int64_t slices = args.slices.divisor();
  const int64_t slot = args.slices.Divide(device::Block());
  const int64_t slice = device::Block() - slot * slices;
  const RunUnits<kWidth> units(args, slice, args.slices);
  const int64_t params = args.rows.g.divisor() * args.rows.k;
  const bool narrow = args.affine.narrow;

  for (int64_t row = slot; row < args.rows.count; row += args.slots) {
    const int64_t base = row * args.rows.length;
    const int64_t n = args.rows.g.Divide(row);
    const int64_t param = (row - n * args.rows.g.divisor()) * args.rows.k;
    SecondOrderInputs<C> by;
    by.mean =
        args.centred ? device::Load(static_cast<const C*>(args.mean) + row) : C(0);
    by.rstd = device::Load(static_cast<const C*>(args.rstd) + row);
    SecondOrderSums<C> sums = {};
    if constexpr (kGradient) {
      sums = JoinSums<C>(args.partial, row * slices, slices,
                         device::Thread() % device::kWarp, device::kWarp);
      by.shares = SharesOfGroup(args, sums, by.rstd, row);
      if (slice == 0 && device::Thread() == 0) {
        StoreStatisticGradients(args, by.shares, by.rstd, row);
      }
    }
    units.ForEach(args, [&](int64_t unit, int64_t run, int64_t begin, int64_t end,
                            int) {
      const bool valid = end > 0;
      by.gamma = valid ? GammaAt<T>(args.affine, param + run) : C(0);
      by.ddgamma = valid ? ParamOrZero<T>(args.ddgamma, narrow, param + run) : C(0);
      by.ddbeta = valid ? ParamOrZero<T>(args.ddbeta, narrow, param + run) : C(0);
      C d_gamma = 0;
      SecondOrderSums<C> of_run = {};
      const int64_t step = int64_t{units.lanes} * kWidth;
#pragma unroll 2
      for (int64_t i = begin; i < end; i += step) {
        if constexpr (kGradient) {
          C terms[kWidth];
          WriteSecondOrder<T, kWidth>(args, base + i, [&](int) { return by; }, terms);
#pragma unroll
          for (int e = 0; e < kWidth; ++e) d_gamma += terms[e];
        } else {
          const SecondOrderAccess<T, kWidth> values(args, base + i);
#pragma unroll
          for (int e = 0; e < kWidth; ++e) {
            Add(SecondOrderTerms<C>(values.dy[e], (values.x[e] - by.mean) * by.rstd,
                                    values.u[e], C(0)),
                &of_run);
          }
        }
      }
      if constexpr (kGradient) {
        d_gamma = LaneSum(d_gamma, units.lanes);
        if (units.lane != 0 || !valid || args.params.gamma == nullptr) return;
        const int64_t piece = unit - run * args.pieces.divisor();
        const int64_t to = (n * args.pieces.divisor() + piece) * params + param + run;
        device::Store(static_cast<C*>(args.params.gamma) + to, d_gamma);
      } else {
        Add(Weighted<C>(of_run, by.gamma, by.ddgamma), &sums);
      }
    });
    if constexpr (!kGradient) {
      StoreSumsOfBlock(sums, args.partial, row * slices + slice);
    }
  }
}

}  // namespace cuda
}  // namespace fusednorm
