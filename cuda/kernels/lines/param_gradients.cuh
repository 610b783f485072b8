// dgamma and dbeta that belong to rows or to positions, and dx in the general
// instances.
#pragma once

#include "cuda/kernels/common/affine.cuh"
#include "cuda/kernels/common/team.cuh"
#include "cuda/kernels/lines/place.cuh"
#include "cuda/kernels/mask/mask.cuh"

namespace fusednorm {
namespace cuda {

// Adds up a row's terms over the threads that share the row. The sum is their part of
// the gradient of the row's parameter, and goes to the partial sums `to` (null: not
// wanted). All lanes of a warp must call; a row's threads are within one warp.
template <class C, int kWidth>
FUSEDNORM_DEVICE void PublishRowParam(void* to, const LinesGeometry& g,
                                      const LineSet& set,
                                      const LinePlace<kWidth>& place, int64_t row,
                                      bool has, C sum) {
  if (to == nullptr) return;
  sum = LaneSum(sum, g.thread_columns.divisor());
  if (!has || place.column != 0) return;
  const int64_t unit = UnitOfParams(g, set.outer, g.tiles.divisor(), set.tile);
  const int64_t at = unit * g.rows + row;
  device::Publish(static_cast<C*>(to) + at, sum);
}

// Stores dgamma and dbeta of an access at `at`, where each element has parameters of
// its own.
template <class T, int kWidth>
FUSEDNORM_DEVICE void StoreParamGradients(
    const ParamSums& params, int64_t at,
    const typename Number<T>::Compute (&xhat)[kWidth],
    const typename Number<T>::Compute (&dz)[kWidth], bool stream) {
  if (params.dgamma != nullptr) {
    typename Number<T>::Compute dgamma[kWidth];
#pragma unroll
    for (int e = 0; e < kWidth; ++e) {
      dgamma[e] = FirstOrderTerms(dz[e], xhat[e]).with_xhat;
    }
    StoreParams<T, kWidth>(params.dgamma, params.narrow, at, dgamma, stream);
  }
  if (params.dbeta != nullptr) {
    StoreParams<T, kWidth>(params.dbeta, params.narrow, at, dz, stream);
  }
}

// Writes dx of an access at `at` from its xhat and dz. Only elements whose bit in
// `kept` is set have shares. Stat is an array with a number for each element of the
// access, or one number for all.
template <class T, int kWidth, class Stat>
FUSEDNORM_DEVICE void WriteGradient(const BackwardArgs& args, const Stat& rstd,
                                    const typename Number<T>::Compute (&gamma)[kWidth],
                                    const Stat& by_xhat, const Stat& added,
                                    const typename Number<T>::Compute (&xhat)[kWidth],
                                    typename Number<T>::Compute (&dz)[kWidth],
                                    int64_t at, uint32_t kept) {
  typedef typename Number<T>::Compute C;
  typedef Pack<T, kWidth> P;
  C dsum[kWidth];
  P other = P::Zero();
  if (args.dsum != nullptr) {
    other = P::LoadOnceFrom(static_cast<const T*>(args.dsum) + at);
  }
  other.Get(dsum);
#pragma unroll
  for (int e = 0; e < kWidth; ++e) {
    // This is DxOf, except that the shares of hidden elements are left out. Multiplying
    // them by 0 would not do, since infinity times 0 is NaN.
    const bool has = Has(kept, e);
    const C of_xhat = has ? xhat[e] * At(by_xhat, e) : C(0);
    dz[e] = dsum[e] + At(rstd, e) * (dz[e] * gamma[e] - of_xhat) +
            (has ? At(added, e) : C(0));
  }
  P::Of(dz).StoreTo(static_cast<T*>(args.dx) + at, args.stream);
}

}  // namespace cuda
}  // namespace fusednorm
