// Second order of rows with one gamma for each element. A team (part of a warp, or a
// block) takes one slice of every geometry.slots-th row. A thread's columns of d_gamma
// are therefore the same in all its rows, and stay in registers.
#pragma once

#include "cuda/kernels/common/held_row.cuh"
#include "cuda/kernels/second_order/sums.cuh"

namespace fusednorm {
namespace cuda {
namespace second_order {

// The place of a thread and its team among the rows and slices.
struct SliceTeam {
  int size, index, team;
  int lanes;  // lanes of a warp that belong to the team
  int64_t first_slot, slot, slice, begin;
  int count;  // elements of the slice

  FUSEDNORM_DEVICE explicit SliceTeam(const SecondOrderGeometry& geometry)
      : size(geometry.team),
        index(device::Thread() % size),
        team(device::Thread() / size),
        lanes(size < device::kWarp ? size : device::kWarp) {
    const int64_t block = geometry.slices.Divide(device::Block());
    slice = device::Block() - block * geometry.slices.divisor();
    first_slot = block * (device::Threads() / size);
    slot = first_slot + team;
    begin = slice * geometry.piece;
    const int64_t left = geometry.group_lanes - begin;
    count = static_cast<int>(left < geometry.piece ? left : geometry.piece);
  }
};

// Loads `params` of the elements of an access and adds `added`. Without `params`, all
// values are `none`.
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

template <class T, int kWidth, bool kGradient>
FUSEDNORM_KERNEL(kThreads, 1)
SecondOrderRows(const SecondOrderArgs args, const SecondOrderGeometry geometry) {
  typedef typename Number<T>::Compute C;
  constexpr int kVectors = Vectors(sizeof(T), kWidth);
  const SliceTeam team(geometry);
  const bool narrow = args.affine.narrow;
  C columns[kVectors][kWidth];
#pragma unroll
  for (int j = 0; j < kVectors; ++j) {
#pragma unroll
    for (int e = 0; e < kWidth; ++e) columns[j][e] = 0;
  }

  // All threads of a block make the same number of rounds.
  for (int64_t round = team.first_slot; round < geometry.count;
       round += geometry.slots) {
    const int64_t row = round + team.team;
    const bool valid = team.slot < geometry.slots && row < geometry.count;
    const RowAccess<kWidth> access = {team.index, team.size, valid ? team.count : 0};
    Inputs<C> by = {};
    by.SetStatistics(args, row, valid);
    if constexpr (kGradient) {
      by.shares =
          JoinShares(args, geometry, row, valid, by.rstd, team.index % team.lanes,
                     team.lanes, team.slice == 0 && team.index == 0);
    }
    const int64_t base = row * geometry.group_lanes + team.begin;
    const int64_t param = geometry.groups.Remainder(row) * geometry.k + team.begin;
    SecondOrderSums<C> sums = {};
    ForEachAccess<kVectors>([&](int j) {
      if (!access.Has(j)) return;
      const int at = access.At(j);
      C gamma[kWidth], ddgamma[kWidth];
      ParamsAlong<T, kWidth>(args.affine.gamma, narrow, param + at, C(1),
                             C(args.affine.zero_centered), gamma);
      ParamsAlong<T, kWidth>(args.ddgamma, narrow, param + at, C(0), C(0), ddgamma);
      if constexpr (kGradient) {
        C ddbeta[kWidth], terms[kWidth];
        ParamsAlong<T, kWidth>(args.ddbeta, narrow, param + at, C(0), C(0), ddbeta);
        WriteGradients<T, kWidth>(
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
      } else {
        const Access<T, kWidth> values(args, base + at);
#pragma unroll
        for (int e = 0; e < kWidth; ++e) {
          by.gamma = gamma[e];
          by.ddgamma = ddgamma[e];
          Add(values.Terms(e, by), &sums);
        }
      }
    });
    if constexpr (!kGradient) {
      if (team.size > device::kWarp) {
        StoreSumsOfBlock(args, geometry, sums, row, team.slice);
        continue;
      }
      LaneSums(&sums, team.lanes);
      if (!valid || team.index != 0) continue;
#pragma unroll
      for (int s = 0; s < kSecondOrderSums; ++s) {
        device::Store(
            static_cast<C*>(args.partial) + PartialAt(geometry, row, team.slice, s),
            sums.at[s]);
      }
    }
  }

  if constexpr (kGradient) {
    if (args.params.gamma == nullptr || team.slot >= geometry.slots) return;
    const RowAccess<kWidth> access = {team.index, team.size, team.count};
#pragma unroll
    for (int j = 0; j < kVectors; ++j) {
      if (!access.Has(j)) continue;
      const int64_t at = team.slot * geometry.group_lanes + team.begin + access.At(j);
#pragma unroll
      for (int e = 0; e < kWidth; ++e) {
        device::Store(static_cast<C*>(args.params.gamma) + at + e, columns[j][e]);
      }
    }
  }
}

}  // namespace second_order
}  // namespace cuda
}  // namespace fusednorm
