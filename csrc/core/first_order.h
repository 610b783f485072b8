// The formulas of a norm and of its gradients, for the CPU and CUDA.
//
// Shapes, as problem.h has them:
//   x, xhat, z, y, dy, dz, dx                [N, P, G, K, Q]
//   gamma, beta, dgamma, dbeta               [G, K], or that of x
//   mean, rstd, dmean, drstd, and S[...]     one value for each group of n elements
//
// Forward computes for each element
//
//   xhat = (x - mean) * rstd,  z = xhat * gamma + beta,  y = activation(z)
//
// Backward gets dy, the gradient of y. It may also get dmean and drstd, the gradients
// of the statistics. It computes
//
//   dz = dy * activation'(z),  dbeta = sum of dz,  dgamma = sum of dz * xhat
//
// with sums over all elements that share the parameter. Let a = dz * gamma, which is
// the gradient of xhat, and let S be the sum over a group. x reaches y in three ways:
// through its own xhat, through the mean, whose derivative is 1 / n, and through rstd,
// whose derivative is -rstd^2 * xhat / n. Together:
//
//   dx = rstd * (a - S[a] / n - xhat * S[a * xhat] / n)
//        + dmean / n - drstd * rstd^2 * xhat / n
//
// The last term is -rstd * xhat * (drstd * rstd / n), so drstd * rstd can be added to
// S[a * xhat]. The group then contributes three numbers to each of its elements, the
// shares:
//
//   dx = rstd * (a - plain - xhat * with_xhat) + offset
//   plain = S[a] / n
//   with_xhat = (S[a * xhat] + drstd * rstd) / n
//   offset = dmean / n
//
// What may be absent:
// - RMS norm has no mean. The caller passes mean = 0 and dmean = 0, and plain is 0.
// - Without gamma or beta the caller passes 1 or 0. It adds 1 to a zero-centred gamma.
// - With a mask, n is the number of elements that the statistics are of. S is over all
//   elements of the group, since all are normalized. The others have no shares: their
//   dx is rstd * a.
//
// V is a number or, on the CPU, a vector of numbers. The CPU computes S and the shares
// in double and rounds the shares to the compute type; CUDA computes them in the
// compute type. The results depend on the order of operations here, and on CUDA also on
// which of them the compiler contracts to a fused multiply-add.
#pragma once

#include "core/portability.h"

namespace fusednorm {

template <class V>
FUSEDNORM_INLINE V XhatOf(V x, V mean, V rstd) {
  return (x - mean) * rstd;
}

template <class V>
FUSEDNORM_INLINE V ZOf(V xhat, V gamma, V beta) {
  return xhat * gamma + beta;
}

// `slope` is activation'(z).
template <class V>
FUSEDNORM_INLINE V DzOf(V dy, V slope) {
  return dy * slope;
}

// The sums of a and of a * xhat over a group, or over a part of it. With dz in place of
// a they are dbeta and dgamma.
template <class V>
struct FirstOrderSums {
  V plain, with_xhat;
};

// What one element adds to the sums.
template <class V>
FUSEDNORM_INLINE FirstOrderSums<V> FirstOrderTerms(V a, V xhat) {
  return {a, a * xhat};
}

// The sums of a from those of dz, if all elements have the same gamma.
template <class V>
FUSEDNORM_INLINE FirstOrderSums<V> Weighted(const FirstOrderSums<V>& sums, V gamma) {
  return {gamma * sums.plain, gamma * sums.with_xhat};
}

// Adds to S[a * xhat] what drstd contributes. A caller without drstd may leave it out.
template <class V>
FUSEDNORM_INLINE V WithDrstd(V with_xhat, V drstd, V rstd) {
  return with_xhat + drstd * rstd;
}

template <class V>
struct FirstOrderShares {
  V plain, with_xhat, offset;
};

// sums.with_xhat must include drstd. dmean is 0 if there is none.
template <class V>
FUSEDNORM_INLINE FirstOrderShares<V> SharesOf(const FirstOrderSums<V>& sums, V dmean,
                                              V inverse_count, bool centred) {
  return {centred ? sums.plain * inverse_count : V{}, sums.with_xhat * inverse_count,
          dmean * inverse_count};
}

template <class V>
FUSEDNORM_INLINE V DxOf(V dz, V gamma, V xhat, V rstd,
                        const FirstOrderShares<V>& shares) {
  return rstd * (dz * gamma - shares.plain - xhat * shares.with_xhat) + shares.offset;
}

// The shares with plain and offset joined to one number. CUDA uses this form, since it
// saves a subtraction for each element, and a register or a place in shared memory. The
// CPU subtracts plain from a, which rounds less where the two are close. In the general
// instances of CUDA, lines/param_gradients.cuh writes dx under a mask in a form of its
// own, in which some elements have no shares.
template <class V>
struct JoinedShares {
  V with_xhat, added;
};

template <class V>
FUSEDNORM_INLINE JoinedShares<V> Joined(const FirstOrderShares<V>& shares, V rstd) {
  return {shares.with_xhat, shares.offset - rstd * shares.plain};
}

template <class V>
FUSEDNORM_INLINE V DxOf(V dz, V gamma, V xhat, V rstd, const JoinedShares<V>& shares) {
  return rstd * (dz * gamma - xhat * shares.with_xhat) + shares.added;
}

}  // namespace fusednorm
