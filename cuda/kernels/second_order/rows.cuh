// Second order of rows whose elements have gamma each. A team, a part of a warp or a
// block, takes one slice of every args.slots-th row, so that a thread's columns of
// d_gamma stay in its registers.
#pragma once

#include "cuda/kernels/common/held_row.cuh"
#include "cuda/kernels/second_order/limits.h"
#include "cuda/kernels/second_order/sums.cuh"

namespace fusednorm {
namespace cuda {

// The team's place.
struct SliceTeam {
  int size, index, team;
  int lanes;  // of a warp that the team has
  int64_t first_slot, slot, slice, begin;
  int count;  // elements of the slice

  FUSEDNORM_DEVICE explicit SliceTeam(const SecondOrderArgs& args)
      : size(args.team),
        index(device::Thread() % size),
        team(device::Thread() / size),
        lanes(size < device::kWarp ? size : device::kWarp) {
    const int64_t block = args.slices.Divide(device::Block());
    slice = device::Block() - block * args.slices.divisor();
    first_slot = block * (device::Threads() / size);
    slot = first_slot + team;
    begin = slice * args.slice;
    const int64_t left = args.rows.length - begin;
    count = static_cast<int>(left < args.slice ? left : args.slice);
  }

  // function(row, valid): the same number of calls in all threads of the block.
  template <class Function>
  FUSEDNORM_DEVICE void ForEachRow(const SecondOrderArgs& args,
                                   const Function& function) const {
    for (int64_t round = first_slot; round < args.rows.count; round += args.slots) {
      const int64_t row = round + team;
      function(row, slot < args.slots && row < args.rows.count);
    }
  }
};

// `params` of the elements of an access; `none` if there are none.
template <class T, int kWidth>
FUSEDNORM_DEVICE void ParamsAlong(const void* params, bool narrow, int64_t i,
                                  typename Number<T>::Compute none,
                                  typename Number<T>::Compute added,
                                  typename Number<T>::Compute (&values)[kWidth]) {
  if (params != nullptr) {
    LoadParams<T, kWidth>(params, narrow, i, values);
#pragma unroll
    for (int e = 0; e < kWidth; ++e) values[e] += added;
  } else {
#pragma unroll
    for (int e = 0; e < kWidth; ++e) values[e] = none;
  }
}
template <class T, int kWidth>
FUSEDNORM_DEVICE void GammaAlong(const SecondOrderArgs& args, int64_t i,
                                 typename Number<T>::Compute (&values)[kWidth]) {
  typedef typename Number<T>::Compute C;
  ParamsAlong<T, kWidth>(args.affine.gamma, args.affine.narrow, i, C(1),
                         C(args.affine.zero_centered), values);
}

template <class T, int kWidth>
FUSEDNORM_KERNEL(kSecondOrderThreads, 1)
SecondOrderRowSums(const SecondOrderArgs args) {
  typedef typename Number<T>::Compute C;
  const SliceTeam team(args);
  team.ForEachRow(args, [&](int64_t row, bool valid) {
    const RowAccess<kWidth> access = {team.index, team.size, valid ? team.count : 0};
    const C mean = valid && args.centred
                       ? device::Load(static_cast<const C*>(args.mean) + row)
                       : C(0);
    const C rstd = valid ? device::Load(static_cast<const C*>(args.rstd) + row) : C(0);
    const int64_t base = row * args.rows.length + team.begin;
    const int64_t param = args.rows.g.Remainder(row) * args.rows.k + team.begin;
    SecondOrderSums<C> sums = {};
#pragma unroll 2
    for (int j = 0; access.Has(j); ++j) {
      const int at = access.At(j);
      const SecondOrderAccess<T, kWidth> values(args, base + at);
      C gamma[kWidth], ddgamma[kWidth];
      GammaAlong<T, kWidth>(args, param + at, gamma);
      ParamsAlong<T, kWidth>(args.ddgamma, args.affine.narrow, param + at, C(0), C(0),
                             ddgamma);
#pragma unroll
      for (int e = 0; e < kWidth; ++e) {
        Add(SecondOrderTerms<C>(values.dy[e] * gamma[e], (values.x[e] - mean) * rstd,
                                values.u[e], values.dy[e] * ddgamma[e]),
            &sums);
      }
    }
    const int64_t to = row * args.slices.divisor() + team.slice;
    if (team.size > device::kWarp) {
      StoreSumsOfBlock(sums, args.partial, to);
      return;
    }
    LaneSums(&sums, team.lanes);
    if (!valid || team.index != 0) return;
#pragma unroll
    for (int s = 0; s < kSecondOrderSums; ++s) {
      StoreSecondOrderSum(args.partial, to, s, sums.at[s]);
    }
  });
}

template <class T, int kWidth>
FUSEDNORM_KERNEL(kSecondOrderThreads, 1)
SecondOrderRowGradient(const SecondOrderArgs args) {
  typedef typename Number<T>::Compute C;
  constexpr int kVectors = SecondOrderVectors(sizeof(T), kWidth);
  const SliceTeam team(args);
  C columns[kVectors][kWidth];
#pragma unroll
  for (int j = 0; j < kVectors; ++j) {
#pragma unroll
    for (int e = 0; e < kWidth; ++e) columns[j][e] = 0;
  }
  team.ForEachRow(args, [&](int64_t row, bool valid) {
    const RowAccess<kWidth> access = {team.index, team.size, valid ? team.count : 0};
    SecondOrderInputs<C> by;
    by.mean = valid && args.centred
                  ? device::Load(static_cast<const C*>(args.mean) + row)
                  : C(0);
    by.rstd = valid ? device::Load(static_cast<const C*>(args.rstd) + row) : C(0);
    const int64_t slices = args.slices.divisor();
    const SecondOrderSums<C> sums =
        JoinSums<C>(args.partial, row * slices, valid ? slices : 0,
                    team.index % team.lanes, team.lanes);
    if (!valid) return;
    by.shares = SharesOfGroup(args, sums, by.rstd, row);
    if (team.slice == 0 && team.index == 0) {
      StoreStatisticGradients(args, by.shares, by.rstd, row);
    }
    const int64_t base = row * args.rows.length + team.begin;
    const int64_t param = args.rows.g.Remainder(row) * args.rows.k + team.begin;
    ForEachAccess<kVectors>([&](int j) {
      if (!access.Has(j)) return;
      const int at = access.At(j);
      C gamma[kWidth], ddgamma[kWidth], ddbeta[kWidth], terms[kWidth];
      GammaAlong<T, kWidth>(args, param + at, gamma);
      ParamsAlong<T, kWidth>(args.ddgamma, args.affine.narrow, param + at, C(0), C(0),
                             ddgamma);
      ParamsAlong<T, kWidth>(args.ddbeta, args.affine.narrow, param + at, C(0), C(0),
                             ddbeta);
      WriteSecondOrder<T, kWidth>(
          args, base + at,
          [&](int e) {
            by.gamma = gamma[e];
            by.ddgamma = ddgamma[e];
            by.ddbeta = ddbeta[e];
            return by;
          },
          terms);
#pragma unroll
      for (int e = 0; e < kWidth; ++e) columns[j][e] += terms[e];
    });
  });

  if (args.params.gamma == nullptr || team.slot >= args.slots) return;
  const RowAccess<kWidth> access = {team.index, team.size, team.count};
#pragma unroll
  for (int j = 0; j < kVectors; ++j) {
    if (!access.Has(j)) continue;
    const int64_t at = team.slot * args.rows.length + team.begin + access.At(j);
#pragma unroll
    for (int e = 0; e < kWidth; ++e) {
      device::Store(static_cast<C*>(args.params.gamma) + at + e, columns[j][e]);
    }
  }
}

}  // namespace cuda
}  // namespace fusednorm
