// Backward of rows in registers, with one read of x and dy and one write of dx. Blocks
// are persistent, so that a thread keeps the sums of dgamma and dbeta of its columns in
// registers over all its rows. Each block, or in the general instance each team, leaves
// one set of partial sums.
#pragma once

#include "cuda/instances.h"
#include "cuda/kernels/common/affine.cuh"
#include "cuda/kernels/common/held_row.cuh"
#include "cuda/kernels/common/thread_columns.cuh"
#include "cuda/kernels/rows/features.cuh"
#include "cuda/kernels/rows/geometry.h"
#include "cuda/kernels/rows/team.cuh"

namespace fusednorm {
namespace cuda {

// The first row of a block's first team. `slots` teams take the rows in turn. `slots`
// is a multiple of G, so that all rows of a team are of one group and need one set of
// columns. Where each sample has its own gamma and beta, `slots` teams of whole blocks
// take the rows of one sample, and successive blocks belong to successive samples.
FUSEDNORM_DEVICE int64_t FirstRow(const Rows& rows, int64_t block, int teams) {
  if (!rows.by_sample) return block * teams;
  const int64_t turn = rows.samples.Divide(block);
  return (block - turn * rows.samples.divisor()) * rows.sets.divisor() + turn * teams;
}
// Moves on to the next row of a block's first team. Returns false if there is none.
FUSEDNORM_DEVICE bool NextRow(const Rows& rows, int64_t slots, int64_t* row) {
  *row += slots;
  return *row < rows.count && (!rows.by_sample || rows.sets.Remainder(*row) >= slots);
}

template <class T, int kVectors, bool kBlock, class Features>
constexpr RowsInstance kRowsBackwardInstance = Find(
    kRowsBackward, sizeof(T), Features::kGeneral, Features::kWide, kVectors, kBlock);
template <class T, int kVectors, bool kBlock, class Features>
constexpr int kRowsBackwardWarps =
    MostWarps(kRowsBackwardInstance<T, kVectors, kBlock, Features>);

// Whether dsum waits in registers beside x and dy. It does not if the three and the
// columns of dgamma and dbeta need so many registers that the compiler would spill,
// which was seen from 70% of a thread's registers on. dsum is then loaded after the
// sums.
template <class T, int kVectors, bool kBlock, class Features>
constexpr bool kHoldsSumGradient = [] {
  constexpr RowsInstance kInstance =
      kRowsBackwardInstance<T, kVectors, kBlock, Features>;
  constexpr int kRegisters = 65536 / (kInstance.threads * kInstance.blocks);
  constexpr int kColumns = (Features::kBeta ? 2 : 1) * kWidthOf<T, Features>;
  constexpr int kHeld = 3 * 4;  // words of three accesses: x, dy and dsum
  return 10 * kVectors * (kColumns + kHeld) < 7 * kRegisters;
}();

template <class T, int kVectors, bool kBlock, class Features>
FUSEDNORM_KERNEL((kRowsBackwardInstance<T, kVectors, kBlock, Features>.threads),
                 (kRowsBackwardInstance<T, kVectors, kBlock, Features>.blocks))
RowsBackward(const BackwardArgs args, const RowsGeometry geometry) {
  typedef typename Number<T>::Compute C;
  constexpr int kWidth = kWidthOf<T, Features>;
  constexpr bool kHolds = kHoldsSumGradient<T, kVectors, kBlock, Features>;
  typedef Pack<T, kWidth> P;

  constexpr int kWarps = kRowsBackwardWarps<T, kVectors, kBlock, Features>;
  RowTeam<C, kBlock, kWarps> team(geometry);
  const int length = static_cast<int>(args.rows.length);
  const bool by_sample = Features::BySample(args);
  const bool constant = Features::Constant(args);
  const int64_t slot = device::Block() * team.teams() + team.team();
  ThreadColumns<C, kVectors, kWidth, Features::kBeta> columns;
  columns.Clear();

  // With one access, registers hold gamma for all rows of the thread.
  constexpr bool kKeepsGamma = !Features::kGeneral && kVectors == 1;
  C gamma[kWidth];
  if (kKeepsGamma && team.index() * kWidth < length) {
    Features::template Gamma<T, kWidth>(args, 0, team.index() * kWidth, gamma);
  }

  int64_t first = by_sample ? FirstRow(args.rows, device::Block(), team.teams())
                            : device::Block() * team.teams();
  // All teams of a block make the same number of rounds.
  bool more = true;
  int64_t at = (first + team.team()) * length + team.index() * kWidth;
  const int64_t next_row = geometry.slots * length;  // a thread's step, in elements
  while (more) {
    const int64_t row = first + team.team();
    const bool active = !Features::kGeneral ? kBlock || row < args.rows.count
                        : by_sample ? args.rows.sets.Remainder(row) >= team.team()
                                    : slot < geometry.slots && row < args.rows.count;
    const RowAccess<kWidth> access = {team.index(), team.size(), active ? length : 0};
    // With many accesses, an offset that runs along would take registers that they
    // need.
    if (by_sample || kVectors > 2) at = row * length + access.At(0);
    const T* const x_at = device::Pinned(static_cast<const T*>(args.x) + at);
    const T* const dy_at = device::Pinned(static_cast<const T*>(args.dy) + at);
    P x[kVectors], dy[kVectors], dsum[kVectors];
#pragma unroll
    for (int j = 0; j < kVectors; ++j) {
      if (!access.Has(j)) continue;
      x[j] = P::LoadOnceFrom(x_at + access.Step(j));
      dy[j] = P::LoadOnceFrom(dy_at + access.Step(j));
    }
    if (kHolds && Features::Residual(args.dsum)) {
#pragma unroll
      for (int j = 0; j < kVectors; ++j) {
        if (!access.Has(j)) continue;
        dsum[j] =
            P::LoadOnceFrom(static_cast<const T*>(args.dsum) + at + access.Step(j));
      }
    }
    const C mean = Features::Centred(args) && active
                       ? device::Load(static_cast<const C*>(args.mean) + row)
                       : C(0);
    const C rstd = active ? device::Load(static_cast<const C*>(args.rstd) + row) : C(0);
    const int64_t param = Features::FirstParam(args, row);

    // Computes xhat, dz and gamma of access `j`.
    const auto differentiate = [&](int j, C(&xhat)[kWidth], C(&dz)[kWidth]) {
      x[j].Get(xhat);
      dy[j].Get(dz);
      Center(mean, rstd, xhat);
      if (Features::Activated(args)) {
        C beta[kWidth];
        Features::template GammaAndBeta<T, kWidth>(args, param, access.At(j), gamma,
                                                   beta);
        BeforeActivation(args.activation, gamma, beta, xhat, dz);
      } else if (!kKeepsGamma) {
        Features::template Gamma<T, kWidth>(args, param, access.At(j), gamma);
      }
    };
    C sums[2] = {0, 0};  // of dz * gamma, and of dz * gamma * xhat
#pragma unroll
    for (int j = 0; j < kVectors; ++j) {
      if (!access.Has(j)) continue;
      C xhat[kWidth], dz[kWidth];
      differentiate(j, xhat, dz);
#pragma unroll
      for (int e = 0; e < kWidth; ++e) {
        columns.Add(j, e, dz[e], xhat[e]);
        // If the whole row has one gamma, gamma is a factor of the sums. It is
        // multiplied in later, because dgamma and dbeta need the sums without it.
        const C term = constant ? dz[e] : dz[e] * gamma[e];
        const FirstOrderSums<C> terms = FirstOrderTerms(term, xhat[e]);
        sums[0] += terms.plain;
        sums[1] += terms.with_xhat;
      }
    }
    team.Sum(sums);
    if (constant && active) {
      if (team.index() == 0) {
        if (args.params.gamma != nullptr) {
          device::Store(static_cast<C*>(args.params.gamma) + row, sums[1]);
        }
        if (args.params.beta != nullptr) {
          device::Store(static_cast<C*>(args.params.beta) + row, sums[0]);
        }
      }
      const FirstOrderSums<C> of_row = {sums[0], sums[1]};
      const auto [plain, with_xhat] = Weighted(of_row, GammaAt<T>(args.affine, param));
      sums[0] = plain;
      sums[1] = with_xhat;
    }

    if (active) {
      const FirstOrderSums<C> of_row = {Features::Centred(args) ? sums[0] : C(0),
                                        sums[1]};
      const FirstOrderShares<C> of_group = SharesOfGroup(
          args, of_row, rstd, Features::Centred(args) ? args.dmean : nullptr,
          args.drstd, row, static_cast<C>(args.inverse_count));
      const JoinedShares<C> shares = Joined(of_group, rstd);
      T* const dx = device::Pinned(static_cast<T*>(args.dx) + at);
#pragma unroll
      for (int j = 0; j < kVectors; ++j) {
        if (!access.Has(j)) continue;
        C xhat[kWidth], dz[kWidth];
        differentiate(j, xhat, dz);
#pragma unroll
        for (int e = 0; e < kWidth; ++e) {
          dz[e] = DxOf(dz[e], gamma[e], xhat[e], rstd, shares);
        }
        if (Features::Residual(args.dsum)) {
          C other[kWidth];
          if (!kHolds) {
            dsum[j] =
                P::LoadOnceFrom(static_cast<const T*>(args.dsum) + at + access.Step(j));
          }
          dsum[j].Get(other);
#pragma unroll
          for (int e = 0; e < kWidth; ++e) dz[e] += other[e];
        }
        P::Of(dz).StoreTo(dx + access.Step(j), args.stream);
      }
    }
    if (by_sample) {
      more = NextRow(args.rows, geometry.slots, &first);
    } else {
      first += geometry.slots;
      at += next_row;
      more = first < args.rows.count;
    }
  }

  const bool wanted = args.params.gamma != nullptr || args.params.beta != nullptr;
  if (!wanted || args.rows.mode != ParamMode::kAlong) return;
  const RowAccess<kWidth> access = {team.index(), team.size(), length};
  if (!kBlock && (!Features::kGeneral || args.rows.g.divisor() == 1)) {
    columns.WriteOfBlock(args.params, length, access);
  } else if (by_sample || slot < geometry.slots) {
    columns.template Write<T>(args.params, slot, length, 0, access);
  }
}

}  // namespace cuda
}  // namespace fusednorm
