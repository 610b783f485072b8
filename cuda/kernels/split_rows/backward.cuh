// Backward of rows that fit on no chip, or too few to fill the device, or with a mask:
// the first kernel sums slices of rows, and the columns of dgamma and dbeta; the second
// adds up and writes dx, dgamma and dbeta.
#pragma once

#include "cuda/kernels/columns/column_sums.cuh"
#include "cuda/kernels/common/gradient.cuh"
#include "cuda/kernels/common/held_row.cuh"
#include "cuda/kernels/common/thread_columns.cuh"
#include "cuda/kernels/mask/mask.cuh"
#include "cuda/kernels/split_rows/forward.cuh"
#include "cuda/kernels/split_rows/geometry.h"

namespace fusednorm {
namespace cuda {

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
  ForEachAccess<Held::kVectors>([&](int j) {
    if (!access.Has(j)) return;
    C xhat[kWidth], dz[kWidth], gamma[kWidth], beta[kWidth];
    held_x.Get(j).Get(xhat);
    held_dy.Get(j).Get(dz);
    AffineOfRow<T, kWidth>(args.affine, args.rows, param, first_element + access.At(j),
                           gamma, beta);
    Differentiate(args, mean, rstd, gamma, beta, xhat, dz);
#pragma unroll
    for (int e = 0; e < kWidth; ++e) {
      columns->Add(j, e, dz[e], xhat[e]);
      const C term = args.rows.mode == ParamMode::kConstant ? dz[e] : dz[e] * gamma[e];
      *plain += term;
      *with_xhat += term * xhat[e];
    }
  });
}

// A block takes one slice, which fills its registers, of every args.slots-th row.
template <class T, int kWidth, int kVectors>
FUSEDNORM_KERNEL(ColumnThreads(sizeof(T), kWidth), 1)
SplitRowsSums(const BackwardArgs args) {
  typedef typename Number<T>::Compute C;
  typedef Pack<T, kWidth> P;
  typedef RegisterRow<T, kWidth, kVectors> Held;
  BlockTeam<C> team(args);
  Held held_x, held_dy;
  ThreadColumns<C, kVectors, kWidth> columns;
  columns.Clear();

  const int64_t slices = args.slices.divisor();
  const int64_t slot = args.slices.Divide(device::Block());
  const int64_t slice = device::Block() - slot * slices;
  const int64_t begin = slice * args.slice;
  const RowAccess<kWidth> access = {device::Thread(), device::Threads(),
                                    static_cast<int>(RowSlice::Count(args, slice))};
  int64_t row = FirstRow(args.rows, slot, 1);
  do {
    const int64_t base = row * args.rows.length + begin;
    ForEachAccess<kVectors>([&](int j) {
      const int64_t at = base + access.At(j);
      const bool has = access.Has(j);
      held_x.Set(j, has ? P::LoadFrom(static_cast<const T*>(args.x) + at) : P::Zero());
      held_dy.Set(j,
                  has ? P::LoadFrom(static_cast<const T*>(args.dy) + at) : P::Zero());
    });
    const C mean =
        args.centred ? device::Load(static_cast<const C*>(args.mean) + row) : C(0);
    const C rstd = device::Load(static_cast<const C*>(args.rstd) + row);
    const int64_t param = FirstParam(args.rows, row);
    C plain = 0, with_xhat = 0;
    ReduceHeldRow<T, kWidth>(args, access, held_x, held_dy, param, begin, mean, rstd,
                             &columns, &plain, &with_xhat);
    team.Sum(&plain, &with_xhat);
    if (device::Thread() == 0) {
      StoreSums(args.partial, row * slices + slice, plain, with_xhat);
    }
  } while (NextRow(args, &row));
  if (args.rows.mode == ParamMode::kAlong) {
    columns.template Write<T>(args.params, slot, args.rows.length, begin, access);
  }
}

// dx of one slice of a row, whatever the first kernel's slices were.
template <class T, int kWidth>
FUSEDNORM_KERNEL(kBlockThreads, 1)
SplitRowsGradient(const BackwardArgs args) {
  typedef typename Number<T>::Compute C;
  typedef Pack<T, kWidth> P;
  BlockTeam<C> team(args);
  const RowSlice at(args, device::Blocks() - 1 - device::Block());
  const C mean =
      args.centred ? device::Load(static_cast<const C*>(args.mean) + at.row) : C(0);
  const C rstd = device::Load(static_cast<const C*>(args.rstd) + at.row);
  const int64_t param = FirstParam(args.rows, at.row);

  C plain = 0, with_xhat = 0;
  for (int64_t s = device::Thread(); s < args.slices.divisor();
       s += device::Threads()) {
    const SumPair<C> sums =
        LoadSums<C>(args.partial, at.row * args.slices.divisor() + s);
    plain += sums.plain;
    with_xhat += sums.with_xhat;
  }
  team.Sum(&plain, &with_xhat);
  if (args.rows.mode == ParamMode::kConstant) {
    const C gamma = GammaAt<T>(args.affine, param);
    plain *= gamma;
    with_xhat *= gamma;
  }
  const Correction<C> by =
      CorrectionOf<C>(args, plain, with_xhat, rstd, args.dmean, args.drstd, at.row,
                      InverseCount<C>(args, at.row));

  const int64_t base = at.row * args.rows.length;
  const int64_t step = int64_t{device::Threads()} * kWidth;
  const int64_t first = at.begin + int64_t{device::Thread()} * kWidth;
  const int64_t sample = args.mask.groups.Divide(at.row);
#pragma unroll 2
  for (int64_t i = first; i < at.end; i += step) {
    C gamma[kWidth], beta[kWidth];
    const P x = P::LoadFrom(static_cast<const T*>(args.x) + base + i);
    const P dy = P::LoadFrom(static_cast<const T*>(args.dy) + base + i);
    AffineOfRow<T, kWidth>(args.affine, args.rows, param, i, gamma, beta);
    WriteGradient<T, kWidth, C>(args, mean, rstd, gamma, beta, by.plain, by.with_xhat,
                                by.offset, x, dy, base + i,
                                Kept<kWidth>(args.mask, sample, i));
  }
  SumParams<T>(args.params);
}

}  // namespace cuda
}  // namespace fusednorm
