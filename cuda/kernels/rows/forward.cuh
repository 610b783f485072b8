// Forward of rows in registers, with one read of x and one write of y. The statistics
// take two passes over the registers: first the mean, then the deviations from it.
#pragma once

#include "cuda/instances.h"
#include "cuda/kernels/common/affine.cuh"
#include "cuda/kernels/common/held_row.cuh"
#include "cuda/kernels/rows/features.cuh"
#include "cuda/kernels/rows/geometry.h"
#include "cuda/kernels/rows/team.cuh"

namespace fusednorm {
namespace cuda {

template <class T, int kVectors, bool kBlock, class Features>
constexpr RowsInstance kRowsForwardInstance = Find(
    kRowsForward, sizeof(T), Features::kGeneral, Features::kWide, kVectors, kBlock);
template <class T, int kVectors, bool kBlock, class Features>
constexpr int kRowsForwardWarps =
    MostWarps(kRowsForwardInstance<T, kVectors, kBlock, Features>);

// A row's mean and its sum of squared deviations (sum of squares, if not centred). This
// takes two sums over the team. The second one also sums the deviations, whose mean
// corrects the rounding error of the mean.
//
// kSkips: the code of an access is jumped over if the thread has no such access.
// Without the jump, which costs instructions, the compiler keeps the numbers of several
// accesses in registers.
template <class T, int kWidth, int kVectors, int kRows, bool kSkips, class Features,
          class Team>
FUSEDNORM_DEVICE void RowStatistics(const NormArgs& args,
                                    const Pack<T, kWidth> (&held)[kRows][kVectors],
                                    const bool (&has)[kRows][kVectors],
                                    const typename Number<T>::Compute (&shift)[kRows],
                                    Team* team,
                                    typename Number<T>::Compute (&mean)[kRows],
                                    typename Number<T>::Compute (&rstd)[kRows]) {
  typedef typename Number<T>::Compute C;
  const C inverse_count = static_cast<C>(args.inverse_count);
  const bool centred = Features::Centred(args);
  C values[kWidth];
  if (centred) {
    C sum[kRows];
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
      sum[r] = 0;
#pragma unroll
      for (int j = 0; j < kVectors; ++j) {
        if (kSkips && !has[r][j]) continue;
        held[r][j].Get(values);
#pragma unroll
        for (int e = 0; e < kWidth; ++e) values[e] -= shift[r];
        const C of_access = PairwiseSum(values);
        sum[r] += has[r][j] ? of_access : C(0);
      }
    }
    team->Sum(sum);
#pragma unroll
    for (int r = 0; r < kRows; ++r) mean[r] = shift[r] + sum[r] * inverse_count;
  } else {
#pragma unroll
    for (int r = 0; r < kRows; ++r) mean[r] = 0;
  }

  C squares[kRows], deviations[kRows];
#pragma unroll
  for (int r = 0; r < kRows; ++r) {
    squares[r] = deviations[r] = 0;
#pragma unroll
    for (int j = 0; j < kVectors; ++j) {
      if (kSkips && !has[r][j]) continue;
      held[r][j].Get(values);
      C of_access = 0;
#pragma unroll
      for (int e = 0; e < kWidth; ++e) {
        values[e] -= mean[r];
        of_access += values[e] * values[e];
      }
      squares[r] += has[r][j] ? of_access : C(0);
      of_access = PairwiseSum(values);
      deviations[r] += has[r][j] ? of_access : C(0);
    }
  }
  if (!centred) {
    team->Sum(squares);
#pragma unroll
    for (int r = 0; r < kRows; ++r) deviations[r] = 0;
  } else {
    C both[2 * kRows];
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
      both[2 * r] = deviations[r];
      both[2 * r + 1] = squares[r];
    }
    team->Sum(both);
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
      deviations[r] = both[2 * r];
      squares[r] = both[2 * r + 1];
      mean[r] += deviations[r] * inverse_count;
    }
  }
#pragma unroll
  for (int r = 0; r < kRows; ++r) {
    rstd[r] = InverseSqrt(Variance(deviations[r], squares[r], inverse_count) +
                          static_cast<C>(args.epsilon));
  }
}

template <class T, int kVectors, bool kBlock, class Features>
FUSEDNORM_KERNEL((kRowsForwardInstance<T, kVectors, kBlock, Features>.threads),
                 (kRowsForwardInstance<T, kVectors, kBlock, Features>.blocks))
RowsForward(const ForwardArgs args, const RowsGeometry geometry) {
  typedef typename Number<T>::Compute C;
  constexpr int kWidth = kWidthOf<T, Features>;
  constexpr int kRows = RowsAtOnce(Features::kGeneral, kVectors, kBlock);
  // With one access, registers hold gamma and beta for all rows of the thread. They are
  // loaded before the thread waits for the sums.
  constexpr bool kKeepsAffine = !Features::kGeneral && kVectors == 1;
  constexpr bool kSkips = kVectors > 2 || Features::kMayHaveResidual;
  typedef Pack<T, kWidth> P;

  constexpr int kWarps = kRowsForwardWarps<T, kVectors, kBlock, Features>;
  RowTeam<C, kBlock, kWarps> team(geometry);
  const T* const from = static_cast<const T*>(args.x);
  const T* const residual = static_cast<const T*>(args.residual);
  const int length = static_cast<int>(args.rows.length);
  const bool centred = Features::Centred(args);
  const RowAccess<kWidth> access = {team.index(), team.size(), length};
  C gamma[kWidth], beta[kWidth];
  if (kKeepsAffine && access.Has(0)) {
    Features::template GammaAndBeta<T, kWidth>(args, 0, access.At(0), gamma, beta);
  }

  // All teams of a block make the same number of rounds, because they meet in shuffles
  // and barriers.
  const int64_t next_row = int64_t{team.teams()} * length;  // a thread's step
  const int64_t rows_of_block = int64_t{team.teams()} * kRows;
  for (int64_t first = device::Block() * rows_of_block; first < args.rows.count;
       first += device::Blocks() * rows_of_block) {
    P held[kRows][kVectors];
    bool active[kRows], has[kRows][kVectors];
    int64_t row[kRows], at[kRows];
    C shift[kRows], mean[kRows], rstd[kRows];
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
      row[r] = first + r * team.teams() + team.team();
      at[r] = r == 0 ? row[r] * length + access.At(0) : at[r - 1] + next_row;
      const T* const x = device::Pinned(from + at[r]);
      active[r] = (kBlock && !Features::kGeneral) || row[r] < args.rows.count;
#pragma unroll
      for (int j = 0; j < kVectors; ++j) {
        has[r][j] = active[r] && access.Has(j);
        if (!kBlock || !kSkips) held[r][j] = P::Zero();
        if (has[r][j]) held[r][j] = P::LoadOnceFrom(x + access.Step(j));
      }
    }
    if (Features::Residual(residual)) {
#pragma unroll
      for (int r = 0; r < kRows; ++r) {
        const T* const added = device::Pinned(residual + at[r]);
#pragma unroll
        for (int j = 0; j < kVectors; ++j) {
          if (!has[r][j]) continue;
          held[r][j] =
              Sum<T, kWidth>(held[r][j], P::LoadOnceFrom(added + access.Step(j)));
        }
      }
    }
    if (centred) {
#pragma unroll
      for (int r = 0; r < kRows; ++r) {
        if constexpr (kBlock) {
          const T* added = Features::Residual(residual) ? residual : nullptr;
          shift[r] = FirstElement<T>(from, added, at[r] - access.At(0));
        } else {
          C values[kWidth];
          held[r][0].Get(values);
          shift[r] = team.First(values[0]);
        }
      }
    }
    RowStatistics<T, kWidth, kVectors, kRows, kSkips, Features>(args, held, has, shift,
                                                                &team, mean, rstd);

    // y and sum are written only now, because they may overwrite x and the residual.
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
      if (active[r] && team.index() == 0) {
        if (centred) device::Store(static_cast<C*>(args.mean) + row[r], mean[r]);
        device::Store(static_cast<C*>(args.rstd) + row[r], rstd[r]);
      }
      const int64_t param = Features::FirstParam(args, row[r]);
      T* const y = device::Pinned(static_cast<T*>(args.y) + at[r]);
      T* const sum = static_cast<T*>(args.sum) + at[r];
#pragma unroll
      for (int j = 0; j < kVectors; ++j) {
        if (!has[r][j]) continue;
        if (Features::Residual(residual)) {
          held[r][j].StoreTo(sum + access.Step(j), args.stream);
        }
        if (!kKeepsAffine) {
          Features::template GammaAndBeta<T, kWidth>(args, param, access.At(j), gamma,
                                                     beta);
        }
        C values[kWidth];
        held[r][j].Get(values);
        Normalize(mean[r], rstd[r], gamma, beta, values);
        if (Features::Activated(args)) Activate(args.activation, values);
        P::Of(values).StoreTo(y + access.Step(j), args.stream);
      }
    }
  }
}

}  // namespace cuda
}  // namespace fusednorm
