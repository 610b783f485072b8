// Second order of channels_first groups: a row is K runs of q elements, each with one
// gamma. Teams of lanes take runs, or pieces of long runs. A block takes one slice of
// every geometry.slots-th row.
#pragma once

#include "cuda/kernels/second_order/sums.cuh"

namespace fusednorm {
namespace cuda {
namespace second_order {

template <class T, int kWidth, bool kGradient>
FUSEDNORM_KERNEL(kThreads, 1)
SecondOrderRuns(const SecondOrderArgs args, const SecondOrderGeometry geometry) {
  typedef typename Number<T>::Compute C;
  const int64_t slot = geometry.slices.Divide(device::Block());
  const int64_t slice = device::Block() - slot * geometry.slices.divisor();
  const int64_t params = geometry.groups.divisor() * geometry.k;
  const int64_t q = geometry.q.divisor(), pieces = geometry.pieces.divisor();
  const int lanes = geometry.team;
  const int teams = device::Threads() / lanes;
  const int team = device::Thread() / lanes;
  const int lane = device::Thread() % lanes;
  // The pieces of the row are numbered run * pieces + piece of the run. A slice takes
  // some successive numbers.
  const int64_t all = geometry.k * pieces;
  const int64_t share = geometry.slices.Divide(all + geometry.slices.divisor() - 1);
  const int64_t begin = slice * share;
  const int64_t end = begin + share < all ? begin + share : all;

  for (int64_t row = slot; row < geometry.count; row += geometry.slots) {
    const int64_t base = row * geometry.group_lanes;
    const int64_t n = geometry.groups.Divide(row);
    const int64_t param = (row - n * geometry.groups.divisor()) * geometry.k;
    Inputs<C> by = {};
    by.SetStatistics(args, row, true);
    SecondOrderSums<C> sums = {};
    if constexpr (kGradient) {
      by.shares = JoinShares(args, geometry, row, true, by.rstd,
                             device::Thread() % device::kWarp, device::kWarp,
                             slice == 0 && device::Thread() == 0);
    }
    // All threads of a block make the same number of rounds.
    for (int64_t first = begin; first < end; first += teams) {
      const int64_t number = first + team;
      const bool valid = number < end;
      const int64_t run = geometry.pieces.Divide(number);
      const int64_t piece = number - run * pieces;
      const int64_t inside = piece * geometry.piece;
      const int64_t left = q - inside < geometry.piece ? q - inside : geometry.piece;
      const int64_t at = run * q + inside;
      const int64_t stop = valid ? at + left : 0;
      if (valid) by.template SetParams<T>(args, param + run);
      C d_gamma = 0;
      SecondOrderSums<C> of_run = {};
#pragma unroll 2
      for (int64_t i = at + lane * kWidth; i < stop; i += int64_t{lanes} * kWidth) {
        if constexpr (kGradient) {
          C terms[kWidth];
          WriteGradients<T, kWidth>(args, base + i, [&](int) { return by; }, terms);
#pragma unroll
          for (int e = 0; e < kWidth; ++e) d_gamma += terms[e];
        } else {
          const Access<T, kWidth> values(args, base + i);
#pragma unroll
          for (int e = 0; e < kWidth; ++e) {
            Add(SecondOrderTerms<C>(values.dy[e], XhatOf(values.x[e], by.mean, by.rstd),
                                    values.u[e], C(0)),
                &of_run);
          }
        }
      }
      if constexpr (kGradient) {
        d_gamma = LaneSum(d_gamma, lanes);
        if (lane != 0 || !valid || args.params.gamma == nullptr) continue;
        const int64_t to = (n * pieces + piece) * params + param + run;
        device::Store(static_cast<C*>(args.params.gamma) + to, d_gamma);
      } else if (valid) {
        Add(Weighted<C>(of_run, by.gamma, by.ddgamma), &sums);
      }
    }
    if constexpr (!kGradient) StoreSumsOfBlock(args, geometry, sums, row, slice);
  }
}

}  // namespace second_order
}  // namespace cuda
}  // namespace fusednorm
