// From sums to statistics, and from a group's sums to the shares of its elements:
// scalar arithmetic in double, once for each group.
//
// Included only by kernels.cc, inside its per-instruction-set namespace.
#pragma once

template <class Scalar>
FUSEDNORM_INLINE Scalar MeanOf(Scalar origin, const Moments& moments) {
  return static_cast<Scalar>(origin + moments.mean);
}

template <class Scalar>
FUSEDNORM_INLINE Scalar RstdOf(const Moments& moments, double per_element,
                               double epsilon) {
  double variance = moments.squares * per_element;
  if (variance < 0) variance = 0;  // below 0 by rounding; NaN stays
  // Zero only where epsilon is 0 and the group constant. The result is then beta, not
  // 0/0.
  const double squared = variance + epsilon;
  return static_cast<Scalar>(squared == 0 ? 0 : 1 / __builtin_sqrt(squared));
}

template <class Scalar>
FUSEDNORM_INLINE FirstOrderShares<Scalar> SharesOfGroup(SumPair sums,
                                                        double per_element,
                                                        bool centred, Scalar rstd,
                                                        Scalar dmean, Scalar drstd) {
  sums.with_xhat = WithDrstd<double>(sums.with_xhat, drstd, rstd);
  const FirstOrderShares<double> exact =
      SharesOf<double>(sums, dmean, per_element, centred);
  return {static_cast<Scalar>(exact.plain), static_cast<Scalar>(exact.with_xhat),
          static_cast<Scalar>(exact.offset)};
}
