// Forward of rows that a team holds on chip: one read of x, one write of y.
#pragma once

#include "cuda/affine.cuh"
#include "cuda/held_row.cuh"
#include "cuda/team.cuh"

namespace fusednorm {
namespace cuda {

// `shared_offset`: where a SharedRow may begin.
template <class T, int kWidth, class Held, class Team>
FUSEDNORM_DEVICE void ForwardHeldRows(const ForwardArgs& args, int64_t shared_offset) {
  typedef typename Number<T>::Compute C;
  typedef Pack<T, kWidth> P;
  constexpr int kVectors = Held::kVectors;
  const C inverse_count = static_cast<C>(args.inverse_count);
  Team team(args);
  Held held(shared_offset);

  const int64_t stride = team.blocks() * team.teams();
  // The same number of rounds for all teams of a block: they meet in shuffles and
  // barriers.
  for (int64_t first = team.block() * team.teams(); first < args.rows.count;
       first += stride) {
    const int64_t row = first + team.team();
    const bool active = row < args.rows.count;
    const RowAccess<kWidth> access = {team.index(), team.size(),
                                      active ? static_cast<int>(args.rows.length) : 0};
    const int64_t base = row * args.rows.length;
    const int count = access.Count();

    ForEachAccess<kVectors>(count, [&](int j) {
      held.Set(j, access.Has(j)
                      ? P::LoadFrom(static_cast<const T*>(args.x) + base + access.At(j))
                      : P::Zero());
    });
    if (args.residual != nullptr) {
      ForEachAccess<kVectors>(count, [&](int j) {
        if (!access.Has(j)) return;
        const T* at = static_cast<const T*>(args.residual) + base + access.At(j);
        held.Set(j, Sum<T, kWidth>(held.Get(j), P::LoadFrom(at)));
      });
    }

    C mean = 0;
    if (args.centred) {
      const C shift = active ? FirstElement<T>(args.x, args.residual, base) : C(0);
      C sum = 0;
      ForEachAccess<kVectors>(count, [&](int j) {
        if (!access.Has(j)) return;
        C values[kWidth];
        held.Get(j).Get(values);
#pragma unroll
        for (int e = 0; e < kWidth; ++e) values[e] -= shift;
        sum += PairwiseSum(values);
      });
      team.Sum(&sum);
      mean = shift + sum * inverse_count;
    }
    // The deviations also correct the mean by what rounding it has cost.
    C sum = 0, squares = 0;
    ForEachAccess<kVectors>(count, [&](int j) {
      if (!access.Has(j)) return;
      C values[kWidth];
      held.Get(j).Get(values);
#pragma unroll
      for (int e = 0; e < kWidth; ++e) {
        values[e] -= mean;
        squares += values[e] * values[e];
      }
      sum += PairwiseSum(values);
    });
    team.Sum(&sum, &squares);
    if (args.centred) {
      mean += sum * inverse_count;
    } else {
      sum = 0;
    }
    const C rstd = InverseSqrt(Variance(sum, squares, inverse_count) +
                               static_cast<C>(args.epsilon));
    if (active && team.index() == 0) {
      if (args.centred) device::Store(static_cast<C*>(args.mean) + row, mean);
      device::Store(static_cast<C*>(args.rstd) + row, rstd);
    }

    // Only now, since sum and y may lie over x and the residual.
    const int64_t param = FirstParam(args.rows, row);
    ForEachAccess<kVectors>(count, [&](int j) {
      if (!access.Has(j)) return;
      const P pack = held.Get(j);
      const int64_t at = base + access.At(j);
      if (args.sum != nullptr) {
        pack.StoreTo(static_cast<T*>(args.sum) + at, args.stream);
      }
      C values[kWidth], gamma[kWidth], beta[kWidth];
      pack.Get(values);
      AffineOfRow<T, kWidth>(args.affine, args.rows, param, access.At(j), gamma, beta);
      Normalize(args, mean, rstd, gamma, beta, values);
      P::Of(values).StoreTo(static_cast<T*>(args.y) + at, args.stream);
    });
  }
  team.Finish();
}

}  // namespace cuda
}  // namespace fusednorm
