// The gradient of the elements of one access, and of the rows that backward kernels
// share.
#pragma once

#include "cuda/kernels/common/affine.cuh"
#include "cuda/kernels/common/args.h"
#include "cuda/kernels/mask/mask.cuh"

namespace fusednorm {
namespace cuda {

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

// The first row of a block's first team. args.slots teams take the rows in turn: a
// multiple of G, so that each has rows of one group and one set of columns. Where each
// sample has its own gamma and beta, args.slots teams, those of whole blocks, take the
// rows of one sample, and successive blocks are of successive samples.
FUSEDNORM_DEVICE int64_t FirstRow(const Rows& rows, int64_t block, int teams) {
  if (!rows.by_sample) return block * teams;
  const int64_t turn = rows.samples.Divide(block);
  return (block - turn * rows.samples.divisor()) * rows.sets.divisor() + turn * teams;
}
// From one row of a block's first team to the next. False: that was the last.
FUSEDNORM_DEVICE bool NextRow(const NormArgs& args, int64_t* row) {
  *row += args.slots;
  return *row < args.rows.count &&
         (!args.rows.by_sample || args.rows.sets.Remainder(*row) >= args.slots);
}

}  // namespace cuda
}  // namespace fusednorm
