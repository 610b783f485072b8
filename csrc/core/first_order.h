// The formulas of a norm and of its gradients, for the CPU and CUDA.
//
// Each group of n elements of x has one mean and one rstd; gamma and beta have one
// value for each channel, or for each position (problem.h). For each element
//
//   xhat = (x - mean) * rstd,  z = xhat * gamma + beta,  y = activation(z)
//
// Backward gets dy, the gradient of y, and may get dmean and drstd, those of the two
// statistics. Then
//
//   dz = dy * activation'(z),  dbeta = sum of dz,  dgamma = sum of dz * xhat
//
// where the sums are over all elements that share the parameter. Let a = dz * gamma,
// the gradient of xhat, and S the sum over a group. x reaches y directly, through the
// mean, whose derivative is 1 / n, and through rstd, whose derivative is
// -rstd^2 * xhat / n. Together:
//
//   dx = rstd * (a - S[a] / n - xhat * S[a xhat] / n)
//        + dmean / n - drstd * rstd^2 * xhat / n
//
// The last term is rstd * xhat times drstd * rstd / n, so that drstd * rstd may be
// added to S[a xhat]: three numbers, the shares, take the group's part of dx to each
// of its elements,
//
//   dx = rstd * (a - plain - xhat * with_xhat) + offset
//   plain = S[a] / n,  with_xhat = (S[a xhat] + drstd * rstd) / n,  offset = dmean / n
//
// RMS norm has no mean: the caller passes mean = 0 and dmean = 0, and plain is 0.
// Without gamma or beta the caller passes 1 or 0; gamma that is stored zero-centred
// arrives here with 1 added. Under a mask, n counts the elements that the statistics
// are of, S is over all elements of the group, since all are normalized, and only the
// elements that count have shares: dx of the others is rstd * a.
//
// V is a number, or a vector of the CPU's. The CPU keeps S and the shares in double and
// rounds the shares to the compute type; CUDA has both in the compute type. Results
// depend on the order of operations here, and in CUDA on which of them the compiler
// contracts to one fused multiply-add.
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

// slope: activation'(z).
template <class V>
FUSEDNORM_INLINE V DzOf(V dy, V slope) {
  return dy * slope;
}

// Sums of a and of a * xhat over a group or a part of one; with dz in the place of a,
// dbeta and dgamma.
template <class V>
struct FirstOrderSums {
  V plain, with_xhat;
};

// What one element adds to the sums.
template <class V>
FUSEDNORM_INLINE FirstOrderSums<V> FirstOrderTerms(V a, V xhat) {
  return {a, a * xhat};
}

// The sums of a from those of dz, where all elements have the same gamma.
template <class V>
FUSEDNORM_INLINE FirstOrderSums<V> Weighted(const FirstOrderSums<V>& sums, V gamma) {
  return {gamma * sums.plain, gamma * sums.with_xhat};
}

// S[a xhat] with what drstd contributes. A caller without drstd may leave this out.
template <class V>
FUSEDNORM_INLINE V WithDrstd(V with_xhat, V drstd, V rstd) {
  return with_xhat + drstd * rstd;
}

template <class V>
struct FirstOrderShares {
  V plain, with_xhat, offset;
};

// with_xhat of the sums includes drstd. dmean: 0 if there is none.
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

// The same shares with plain and offset in one number, which saves a subtraction for
// each element and a register or a place in shared memory: CUDA has them so. The CPU
// subtracts plain from a itself, which rounds once less where the two are close.
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
