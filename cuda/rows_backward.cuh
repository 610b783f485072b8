// Backward of rows that a team holds on chip: one read of x and dy, one write of dx,
// and one set of dgamma/dbeta partial sums from each block (or each team).
#pragma once

#include "cuda/affine.cuh"
#include "cuda/held_row.cuh"
#include "cuda/mask.cuh"
#include "cuda/team.cuh"

namespace fusednorm {
namespace cuda {

// A thread's columns of dgamma and dbeta, summed over the rows that its team sees.
template <class C, int kVectors, int kWidth>
struct ColumnSums {
  C gamma[kVectors][kWidth];
  C beta[kVectors][kWidth];

  FUSEDNORM_DEVICE void Clear() {
#pragma unroll
    for (int j = 0; j < kVectors; ++j) {
#pragma unroll
      for (int e = 0; e < kWidth; ++e) gamma[j][e] = beta[j][e] = 0;
    }
  }

  // Writes them as partial sums `set` of rows of `row` parameters.
  template <class Access>
  FUSEDNORM_DEVICE void Write(const ParamSums& params, int64_t set, int64_t row,
                              int64_t first, const Access& access) const {
#pragma unroll
    for (int j = 0; j < kVectors; ++j) {
      if (!access.Has(j)) continue;
#pragma unroll
      for (int e = 0; e < kWidth; ++e) {
        const int64_t at = set * row + first + access.At(j) + e;
        if (params.gamma != nullptr) {
          device::Store(static_cast<C*>(params.gamma) + at, gamma[j][e]);
        }
        if (params.beta != nullptr) {
          device::Store(static_cast<C*>(params.beta) + at, beta[j][e]);
        }
      }
    }
  }

  // Adds up the teams of a block, then writes. The teams of a warp by shuffles, the
  // warps in their order through shared memory of 2 * length numbers.
  template <class Access>
  FUSEDNORM_DEVICE void WriteOfBlock(const ParamSums& params, int length,
                                     const Access& access) {
    for (int mask = access.size; mask < device::kWarp; mask *= 2) {
#pragma unroll
      for (int j = 0; j < kVectors; ++j) {
#pragma unroll
        for (int e = 0; e < kWidth; ++e) {
          gamma[j][e] += device::ShuffleXor(gamma[j][e], mask);
          beta[j][e] += device::ShuffleXor(beta[j][e], mask);
        }
      }
    }
    const device::Shared<C> shared(0);
    const int warp = device::Thread() / device::kWarp;
    const int lane = device::Thread() % device::kWarp;
    for (int turn = 0; turn < device::Threads() / device::kWarp; ++turn) {
      if (warp == turn && lane < access.size) {
#pragma unroll
        for (int j = 0; j < kVectors; ++j) {
#pragma unroll
          for (int e = 0; e < kWidth; ++e) {
            const int i = access.At(j) + e;
            if (i >= length) continue;
            shared.Set(i, gamma[j][e] + (turn == 0 ? C(0) : shared.Get(i)));
            shared.Set(length + i,
                       beta[j][e] + (turn == 0 ? C(0) : shared.Get(length + i)));
          }
        }
      }
      device::SyncBlock();
    }
    for (int i = device::Thread(); i < length; i += device::Threads()) {
      const int64_t at = device::Block() * length + i;
      if (params.gamma != nullptr) {
        device::Store(static_cast<C*>(params.gamma) + at, shared.Get(i));
      }
      if (params.beta != nullptr) {
        device::Store(static_cast<C*>(params.beta) + at, shared.Get(length + i));
      }
    }
  }
};

// Adds the row in `x` and `dy` to the columns, and to a group's two sums. Where gamma
// is one number a row, the sums are left without it.
template <class T, int kWidth, class Held, class Columns>
FUSEDNORM_DEVICE void ReduceHeldRow(const BackwardArgs& args,
                                    const RowAccess<kWidth>& access, const Held& held_x,
                                    const Held& held_dy, int64_t param,
                                    int64_t first_element,
                                    typename Number<T>::Compute mean,
                                    typename Number<T>::Compute rstd, Columns* columns,
                                    typename Number<T>::Compute* plain,
                                    typename Number<T>::Compute* with_xhat) {
  typedef typename Number<T>::Compute C;
  ForEachAccess<Held::kVectors>(Held::kVectors, [&](int j) {
    if (!access.Has(j)) return;
    C xhat[kWidth], dz[kWidth], gamma[kWidth], beta[kWidth];
    held_x.Get(j).Get(xhat);
    held_dy.Get(j).Get(dz);
    AffineOfRow<T, kWidth>(args.affine, args.rows, param, first_element + access.At(j),
                           gamma, beta);
    Differentiate(args, mean, rstd, gamma, beta, xhat, dz);
#pragma unroll
    for (int e = 0; e < kWidth; ++e) {
      columns->gamma[j][e] += dz[e] * xhat[e];
      columns->beta[j][e] += dz[e];
      const C term = args.rows.mode == ParamMode::kConstant ? dz[e] : dz[e] * gamma[e];
      *plain += term;
      *with_xhat += term * xhat[e];
    }
  });
}

// dx of the elements of one access at `at` of the tensor. The group's sums reach those
// whose bit in `kept` is set.
template <class T, int kWidth, class Stat>
FUSEDNORM_DEVICE void WriteGradient(const BackwardArgs& args, const Stat& mean,
                                    const Stat& rstd,
                                    const typename Number<T>::Compute (&gamma)[kWidth],
                                    const typename Number<T>::Compute (&beta)[kWidth],
                                    const Stat& plain, const Stat& with_xhat,
                                    const Stat& offset, const Pack<T, kWidth>& x,
                                    const Pack<T, kWidth>& dy, int64_t at,
                                    uint32_t kept = ~uint32_t{0}) {
  typedef typename Number<T>::Compute C;
  C xhat[kWidth], dz[kWidth];
  x.Get(xhat);
  dy.Get(dz);
  Differentiate(args, mean, rstd, gamma, beta, xhat, dz);
  Pack<T, kWidth> other = Pack<T, kWidth>::Zero();
  if (args.dsum != nullptr) {
    other = Pack<T, kWidth>::LoadFrom(static_cast<const T*>(args.dsum) + at);
  }
  C dsum[kWidth];
  other.Get(dsum);
#pragma unroll
  for (int e = 0; e < kWidth; ++e) {
    const bool has = Has(kept, e);
    const C of_plain = has ? At(plain, e) : C(0);
    const C of_xhat = has ? xhat[e] * At(with_xhat, e) : C(0);
    dz[e] = dsum[e] + At(rstd, e) * (dz[e] * gamma[e] - of_plain - of_xhat) +
            (has ? At(offset, e) : C(0));
  }
  Pack<T, kWidth>::Of(dz).StoreTo(static_cast<T*>(args.dx) + at, args.stream);
}

// args.slots teams take the rows in turn; a multiple of G, so that each has rows of one
// group and one set of columns.
template <class T, int kWidth, class Held, class Team>
FUSEDNORM_DEVICE void BackwardHeldRows(const BackwardArgs& args, int64_t shared_offset,
                                       int64_t shared_offset_dy) {
  typedef typename Number<T>::Compute C;
  typedef Pack<T, kWidth> P;
  constexpr int kVectors = Held::kVectors;
  Team team(args);
  Held held_x(shared_offset), held_dy(shared_offset_dy);
  ColumnSums<C, kVectors, kWidth> columns;
  columns.Clear();

  const int64_t first_slot = team.block() * team.teams();
  const int64_t slot = first_slot + team.team();
  for (int64_t round = first_slot; round < args.rows.count; round += args.slots) {
    const int64_t row = round + team.team();
    const bool active = slot < args.slots && row < args.rows.count;
    const RowAccess<kWidth> access = {team.index(), team.size(),
                                      active ? static_cast<int>(args.rows.length) : 0};
    const int64_t base = row * args.rows.length;
    ForEachAccess<kVectors>(kVectors, [&](int j) {
      const int64_t at = base + access.At(j);
      const bool has = access.Has(j);
      held_x.Set(j, has ? P::LoadFrom(static_cast<const T*>(args.x) + at) : P::Zero());
      held_dy.Set(j,
                  has ? P::LoadFrom(static_cast<const T*>(args.dy) + at) : P::Zero());
    });
    const C mean = active && args.centred
                       ? device::Load(static_cast<const C*>(args.mean) + row)
                       : C(0);
    const C rstd = active ? device::Load(static_cast<const C*>(args.rstd) + row) : C(0);
    const int64_t param = args.rows.g.Remainder(row) * args.rows.k;

    C plain = 0, with_xhat = 0;
    ReduceHeldRow<T, kWidth>(args, access, held_x, held_dy, param, 0, mean, rstd,
                             &columns, &plain, &with_xhat);
    team.Sum(&plain, &with_xhat);
    if (args.rows.mode == ParamMode::kConstant && active) {
      if (team.index() == 0) {
        if (args.params.gamma != nullptr) {
          device::Store(static_cast<C*>(args.params.gamma) + row, with_xhat);
        }
        if (args.params.beta != nullptr) {
          device::Store(static_cast<C*>(args.params.beta) + row, plain);
        }
      }
      const C gamma = GammaAt<T>(args.affine, param);
      plain *= gamma;
      with_xhat *= gamma;
    }
    if (!active) continue;
    const Correction<C> by =
        CorrectionOf<C>(args, plain, with_xhat, rstd, args.dmean, args.drstd, row,
                        static_cast<C>(args.inverse_count));
    ForEachAccess<kVectors>(kVectors, [&](int j) {
      if (!access.Has(j)) return;
      C gamma[kWidth], beta[kWidth];
      AffineOfRow<T, kWidth>(args.affine, args.rows, param, access.At(j), gamma, beta);
      WriteGradient<T, kWidth, C>(args, mean, rstd, gamma, beta, by.plain, by.with_xhat,
                                  by.offset, held_x.Get(j), held_dy.Get(j),
                                  base + access.At(j));
    });
  }
  team.Finish();

  const bool wanted = args.params.gamma != nullptr || args.params.beta != nullptr;
  if (!wanted || args.rows.mode != ParamMode::kAlong) return;
  const int length = static_cast<int>(args.rows.length);
  const RowAccess<kWidth> access = {team.index(), team.size(), length};
  if (team.teams() > 1 && args.rows.g.divisor() == 1) {
    columns.WriteOfBlock(args.params, length, access);
  } else if (slot < args.slots) {
    columns.Write(args.params, slot, length, 0, access);
  }
}

}  // namespace cuda
}  // namespace fusednorm
