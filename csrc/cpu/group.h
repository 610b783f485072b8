// From sums to statistics, and from a group's sums to its part of dx: scalar
// arithmetic, in double, once a group.
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
  if (variance < 0) variance = 0;  // rounding; NaN stays
  // Only epsilon = 0 gets here with zero: a constant group is then beta, not 0/0.
  const double squared = variance + epsilon;
  return static_cast<Scalar>(squared == 0 ? 0 : 1 / __builtin_sqrt(squared));
}

// dx = rstd * (dz * gamma - plain - xhat * xhat_term) + offset
template <class Scalar>
struct GroupCorrection {
  Scalar plain, xhat, offset;
};

template <class Scalar>
FUSEDNORM_INLINE GroupCorrection<Scalar> CorrectionOf(const SumPair& sums,
                                                      double per_element, bool centred,
                                                      Scalar rstd, Scalar dmean,
                                                      Scalar drstd) {
  const double xhat = (sums.xhat + static_cast<double>(drstd) * rstd) * per_element;
  return {static_cast<Scalar>(centred ? sums.plain * per_element : 0),
          static_cast<Scalar>(xhat),
          static_cast<Scalar>(static_cast<double>(dmean) * per_element)};
}
