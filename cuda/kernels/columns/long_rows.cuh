// Backward of rows with one gamma for each element that do not fit the registers of a
// block. The first kernel sums pieces of rows. In the second one, each thread takes the
// columns of one access in all rows of a chunk; it writes dx and the chunk's sums of
// dgamma and dbeta.
#pragma once

#include "cuda/kernels/columns/geometry.h"
#include "cuda/kernels/common/affine.cuh"
#include "cuda/kernels/common/args.h"
#include "cuda/kernels/common/moments.cuh"
#include "cuda/kernels/rows/features.cuh"

namespace fusednorm {
namespace cuda {

// gamma and beta of an access at element `i` of a row. beta matters only where there is
// an activation.
template <class T, class Features, int kWidth>
FUSEDNORM_DEVICE void AffineOfColumns(const NormArgs& args, int64_t row, int64_t i,
                                      typename Number<T>::Compute (&gamma)[kWidth],
                                      typename Number<T>::Compute (&beta)[kWidth]) {
  if constexpr (Features::kGeneral) {
    AffineOfRow<T, kWidth>(args.affine, args.rows, FirstParam(args.rows, row), i, gamma,
                           beta);
  } else {
    LoadConstants(static_cast<const float*>(args.affine.gamma) + i, gamma);
  }
}

// xhat and dz are x and dy on entry.
template <class Features, class C, int kWidth>
FUSEDNORM_DEVICE void DifferentiateColumns(const NormArgs& args, C mean, C rstd,
                                           const C (&gamma)[kWidth],
                                           const C (&beta)[kWidth], C (&xhat)[kWidth],
                                           C (&dz)[kWidth]) {
  Center(mean, rstd, xhat);
  if constexpr (Features::kGeneral) {
    BeforeActivation(args.activation, gamma, beta, xhat, dz);
  }
}

// A block leaves two sums for its piece of a row: of dz * gamma, and of
// dz * gamma * xhat.
template <class T, class Features>
FUSEDNORM_KERNEL(kColumnsThreads, Features::kGeneral ? 2 : 4)
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
    C xhat[kWidth], dz[kWidth], gamma[kWidth], beta[kWidth];
    P::LoadFrom(x + i).Get(xhat);
    P::LoadFrom(dy + i).Get(dz);
    AffineOfColumns<T, Features>(args, row, i, gamma, beta);
    DifferentiateColumns<Features>(args, mean, rstd, gamma, beta, xhat, dz);
#pragma unroll
    for (int e = 0; e < kWidth; ++e) {
      const FirstOrderSums<C> terms = FirstOrderTerms(dz[e] * gamma[e], xhat[e]);
      plain += terms.plain;
      with_xhat += terms.with_xhat;
    }
  }
  SumBlock(&plain, &with_xhat);
  if (device::Thread() == 0) {
    StoreSums(args.partial, device::Block(), plain, with_xhat);
  }
}

// The numbers that the elements of a row need, in shared memory.
template <class C>
class RowConstants {
 public:
  FUSEDNORM_DEVICE explicit RowConstants() : shared_(0) {}

  FUSEDNORM_DEVICE void Set(int64_t row, C mean, C rstd,
                            const JoinedShares<C>& shares) const {
    shared_.Set(kRowConstants * row, mean);
    shared_.Set(kRowConstants * row + 1, rstd);
    shared_.Set(kRowConstants * row + 2, shares.with_xhat);
    shared_.Set(kRowConstants * row + 3, shares.added);
  }
  FUSEDNORM_DEVICE C mean(int64_t row) const {
    return shared_.Get(kRowConstants * row);
  }
  FUSEDNORM_DEVICE C rstd(int64_t row) const {
    return shared_.Get(kRowConstants * row + 1);
  }
  FUSEDNORM_DEVICE JoinedShares<C> shares(int64_t row) const {
    return {shared_.Get(kRowConstants * row + 2), shared_.Get(kRowConstants * row + 3)};
  }

 private:
  const device::Shared<C> shared_;
};

// Adds up the sums of all pieces of the rows [begin, end).
template <class Features, class C>
FUSEDNORM_DEVICE void JoinPieces(const BackwardArgs& args,
                                 const ColumnsGeometry& geometry, int64_t begin,
                                 int64_t end, const RowConstants<C>& constants) {
  const int team = 1 << geometry.join_bits;
  const int member = device::Thread() & (team - 1);
  const int64_t pieces = geometry.pieces.divisor();
  for (int64_t first = begin; first < end;
       first += device::Threads() >> geometry.join_bits) {
    const int64_t row = first + (device::Thread() >> geometry.join_bits);
    C plain = 0, with_xhat = 0;
    if (row < end) {
      for (int64_t i = member; i < pieces; i += team) {
        const FirstOrderSums<C> sums = LoadSums<C>(args.partial, row * pieces + i);
        plain += sums.plain;
        with_xhat += sums.with_xhat;
      }
    }
    plain = LaneSum(plain, team);
    with_xhat = LaneSum(with_xhat, team);
    if (row >= end || member != 0) continue;
    const C rstd = device::Load(static_cast<const C*>(args.rstd) + row);
    const FirstOrderSums<C> of_row = {Features::Centred(args) ? plain : C(0),
                                      with_xhat};
    const FirstOrderShares<C> shares = SharesOfGroup(
        args, of_row, rstd, Features::Centred(args) ? args.dmean : nullptr, args.drstd,
        row, static_cast<C>(args.inverse_count));
    const C mean = Features::Centred(args)
                       ? device::Load(static_cast<const C*>(args.mean) + row)
                       : C(0);
    constants.Set(row - begin, mean, rstd, Joined(shares, rstd));
  }
}

template <class T, class Features>
FUSEDNORM_KERNEL(kColumnsThreads, kColumnsBlocks)
LongRowGradient(const BackwardArgs args, const ColumnsGeometry geometry) {
  typedef typename Number<T>::Compute C;
  constexpr int kWidth = kWidthOf<T, Features>;
  constexpr int kRows = kColumnsRowsAtOnce<Features::kGeneral>;
  typedef Pack<T, kWidth> P;
  const RowConstants<C> constants;
  // Blocks begin at the end of the tensor, whose elements are still in L2 from the
  // first kernel.
  const int64_t block = device::Blocks() - 1 - device::Block();
  const int64_t chunk = geometry.column_blocks.Divide(block);
  const int64_t sample = geometry.chunks.Divide(chunk);
  const int64_t of_sample = chunk - sample * geometry.chunks.divisor();
  const int64_t begin = sample * geometry.sample_rows + of_sample * geometry.chunk_rows;
  const int64_t after = begin + geometry.chunk_rows;
  const int64_t last = (sample + 1) * geometry.sample_rows;
  const int64_t end = after < last ? after : last;
  JoinPieces<Features>(args, geometry, begin, end, constants);
  device::SyncBlock();

  const int64_t of_chunk = block - chunk * geometry.column_blocks.divisor();
  const int64_t i = (of_chunk * device::Threads() + device::Thread()) * kWidth;
  if (i >= args.rows.length) return;
  C gamma[kWidth], beta[kWidth], dgamma[kWidth], dbeta[kWidth];
  AffineOfColumns<T, Features>(args, begin, i, gamma, beta);
#pragma unroll
  for (int e = 0; e < kWidth; ++e) dgamma[e] = dbeta[e] = 0;
  for (int64_t first = begin; first < end; first += kRows) {
    P x[kRows], dy[kRows], dsum[kRows];
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
      if (first + r >= end) continue;
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
      if (row >= end) continue;
      C xhat[kWidth], dz[kWidth];
      x[r].Get(xhat);
      dy[r].Get(dz);
      const C rstd = constants.rstd(row - begin);
      const JoinedShares<C> shares = constants.shares(row - begin);
      DifferentiateColumns<Features>(args, constants.mean(row - begin), rstd, gamma,
                                     beta, xhat, dz);
#pragma unroll
      for (int e = 0; e < kWidth; ++e) {
        const FirstOrderSums<C> terms = FirstOrderTerms(dz[e], xhat[e]);
        dgamma[e] += terms.with_xhat;
        dbeta[e] += terms.plain;
        dz[e] = DxOf(dz[e], gamma[e], xhat[e], rstd, shares);
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
  const int64_t at = (of_sample * geometry.samples + sample) * args.rows.length + i;
  if (args.params.gamma != nullptr) {
    StoreParams<T, kWidth>(args.params.gamma, false, at, dgamma, false);
  }
  if (args.params.beta != nullptr) {
    StoreParams<T, kWidth>(args.params.beta, false, at, dbeta, false);
  }
}

}  // namespace cuda
}  // namespace fusednorm
