// Backward of few long rows with one gamma for each element: the first kernel sums
// pieces of rows; in the second one a thread has the columns of one access of all rows,
// and writes dx, dgamma and dbeta.
#pragma once

#include "cuda/kernels/columns/geometry.h"
#include "cuda/kernels/common/affine.cuh"
#include "cuda/kernels/common/args.h"
#include "cuda/kernels/common/moments.cuh"
#include "cuda/kernels/rows/features.cuh"

namespace fusednorm {
namespace cuda {

// A block's piece of a row leaves two sums: of dy * gamma, and of that times xhat.
template <class T, class Features>
FUSEDNORM_KERNEL(kColumnsThreads, 4)
LongRowSums(const BackwardArgs args, const ColumnsGeometry geometry) {
  typedef typename Number<T>::Compute C;
  constexpr int kWidth = kWidthOf<T, Features>;
  typedef Pack<T, kWidth> P;
  const int64_t row = geometry.pieces.Divide(device::Block());
  const int64_t piece = device::Block() - row * geometry.pieces.divisor();
  const int64_t end = (piece + 1) * geometry.piece * kWidth;
  const int64_t last = end < args.rows.length ? end : args.rows.length;
  const C mean = Features::Centred(args)
                     ? device::Load(static_cast<const C*>(args.mean) + row)
                     : C(0);
  const C rstd = device::Load(static_cast<const C*>(args.rstd) + row);
  const T* const x = static_cast<const T*>(args.x) + row * args.rows.length;
  const T* const dy = static_cast<const T*>(args.dy) + row * args.rows.length;
  C plain = 0, with_xhat = 0;
#pragma unroll 2
  for (int64_t i = (piece * geometry.piece + device::Thread()) * kWidth; i < last;
       i += int64_t{device::Threads()} * kWidth) {
    C xhat[kWidth], dz[kWidth], gamma[kWidth];
    P::LoadFrom(x + i).Get(xhat);
    P::LoadFrom(dy + i).Get(dz);
    LoadConstants(static_cast<const float*>(args.affine.gamma) + i, gamma);
    Center(mean, rstd, xhat);
#pragma unroll
    for (int e = 0; e < kWidth; ++e) {
      const C term = dz[e] * gamma[e];
      plain += term;
      with_xhat += term * xhat[e];
    }
  }
  SumBlock(&plain, &with_xhat);
  if (device::Thread() == 0) {
    StoreSums(args.partial, device::Block(), plain, with_xhat);
  }
}

// What the elements of a row need, in shared memory.
template <class C>
class RowConstants {
 public:
  FUSEDNORM_DEVICE explicit RowConstants() : shared_(0) {}

  FUSEDNORM_DEVICE void Set(int64_t row, C mean, C rstd, C with_xhat, C added) const {
    shared_.Set(kRowConstants * row, mean);
    shared_.Set(kRowConstants * row + 1, rstd);
    shared_.Set(kRowConstants * row + 2, with_xhat);
    shared_.Set(kRowConstants * row + 3, added);
  }
  FUSEDNORM_DEVICE C mean(int64_t row) const {
    return shared_.Get(kRowConstants * row);
  }
  FUSEDNORM_DEVICE C rstd(int64_t row) const {
    return shared_.Get(kRowConstants * row + 1);
  }
  FUSEDNORM_DEVICE C with_xhat(int64_t row) const {
    return shared_.Get(kRowConstants * row + 2);
  }
  FUSEDNORM_DEVICE C added(int64_t row) const {
    return shared_.Get(kRowConstants * row + 3);
  }

 private:
  const device::Shared<C> shared_;
};

template <class T, class Features>
FUSEDNORM_KERNEL(kColumnsThreads, 2)
LongRowGradient(const BackwardArgs args, const ColumnsGeometry geometry) {
  typedef typename Number<T>::Compute C;
  constexpr int kWidth = kWidthOf<T, Features>;
  constexpr int kRows = kColumnsRowsAtOnce;
  typedef Pack<T, kWidth> P;
  const RowConstants<C> constants;
  const int lane = device::Thread() % device::kWarp;
  const int warp = device::Thread() / device::kWarp;
  const int warps = device::Threads() / device::kWarp;
  for (int64_t row = warp; row < args.rows.count; row += warps) {
    C plain = 0, with_xhat = 0;
    for (int64_t i = lane; i < geometry.pieces.divisor(); i += device::kWarp) {
      const SumPair<C> sums =
          LoadSums<C>(args.partial, row * geometry.pieces.divisor() + i);
      plain += sums.plain;
      with_xhat += sums.with_xhat;
    }
    plain = LaneSum(plain, device::kWarp);
    with_xhat = LaneSum(with_xhat, device::kWarp);
    if (lane != 0) continue;
    const C rstd = device::Load(static_cast<const C*>(args.rstd) + row);
    const Correction<C> by =
        CorrectionOf<C>(args, Features::Centred(args) ? plain : C(0), with_xhat, rstd,
                        Features::Centred(args) ? args.dmean : nullptr, args.drstd, row,
                        static_cast<C>(args.inverse_count));
    const C mean = Features::Centred(args)
                       ? device::Load(static_cast<const C*>(args.mean) + row)
                       : C(0);
    constants.Set(row, mean, rstd, by.with_xhat, by.offset - rstd * by.plain);
  }
  device::SyncBlock();

  // From the end, where the first kernel's last reads are still in L2.
  const int64_t block = device::Blocks() - 1 - device::Block();
  const int64_t i = (block * device::Threads() + device::Thread()) * kWidth;
  if (i >= args.rows.length) return;
  C gamma[kWidth], dgamma[kWidth], dbeta[kWidth];
  LoadConstants(static_cast<const float*>(args.affine.gamma) + i, gamma);
#pragma unroll
  for (int e = 0; e < kWidth; ++e) dgamma[e] = dbeta[e] = 0;
  for (int64_t first = 0; first < args.rows.count; first += kRows) {
    P x[kRows], dy[kRows], dsum[kRows];
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
      if (first + r >= args.rows.count) continue;
      const int64_t at = (first + r) * args.rows.length + i;
      x[r] = P::LoadOnceFrom(static_cast<const T*>(args.x) + at);
      dy[r] = P::LoadOnceFrom(static_cast<const T*>(args.dy) + at);
      if (Features::Residual(args.dsum)) {
        dsum[r] = P::LoadOnceFrom(static_cast<const T*>(args.dsum) + at);
      }
    }
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
      const int64_t row = first + r;
      if (row >= args.rows.count) continue;
      C xhat[kWidth], dz[kWidth];
      x[r].Get(xhat);
      dy[r].Get(dz);
      const C rstd = constants.rstd(row);
      const C by_xhat = constants.with_xhat(row);
      const C added = constants.added(row);
      Center(constants.mean(row), rstd, xhat);
#pragma unroll
      for (int e = 0; e < kWidth; ++e) {
        dgamma[e] += dz[e] * xhat[e];
        dbeta[e] += dz[e];
        dz[e] = rstd * (dz[e] * gamma[e] - xhat[e] * by_xhat) + added;
      }
      if (Features::Residual(args.dsum)) {
        C other[kWidth];
        dsum[r].Get(other);
#pragma unroll
        for (int e = 0; e < kWidth; ++e) dz[e] += other[e];
      }
      P::Of(dz).StoreTo(static_cast<T*>(args.dx) + row * args.rows.length + i,
                        args.stream);
    }
  }
  if (args.params.dgamma != nullptr) {
    StoreParams<T, kWidth>(args.params.dgamma, false, i, dgamma, false);
  }
  if (args.params.dbeta != nullptr) {
    StoreParams<T, kWidth>(args.params.dbeta, false, i, dbeta, false);
  }
}

}  // namespace cuda
}  // namespace fusednorm
