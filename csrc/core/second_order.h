// The derivatives of the gradients of a norm without activation, for the CPU and CUDA.
//
// Let a = dy * gamma, u = ddx (the gradient of dx), v = ddgamma * dy, and M the mean
// over a group of n elements. The first order (first_order.h) is
//
//   dx = rstd * (a - M[a] - xhat * M[a xhat]) + dmean / n - drstd * rstd^2 * xhat / n
//
// and the gradient of x, through xhat (q) and through rstd (r), is
//
//   d_x = rstd * (q - M[q] - xhat * M[q xhat]) - r * rstd^2 * xhat
//   q = -rstd * (u * M[a xhat] + a * M[u xhat]) - drstd * rstd^2 / n * u + v
//   r = M[u a] - M[u] M[a] - M[u xhat] M[a xhat] - 2 * drstd * rstd / n * M[u xhat]
//
// M[u], M[a] and M[q] are absent where there is no mean. Seven sums over the group also
// give the means of q, so that two passes over dy, x and ddx are enough.
#pragma once

#include "core/portability.h"

namespace fusednorm {

// The sums over a group, or over a part of one. If all elements have the same gamma and
// ddgamma, the sums may be taken with dy in place of a and without the last two;
// Weighted then makes the seven sums.
enum SecondOrderSum { kSumA, kSumAXhat, kSumU, kSumUXhat, kSumUA, kSumV, kSumVXhat };
constexpr int kSecondOrderSums = 7;
constexpr int kUnweightedSums = 5;

template <class C>
struct SecondOrderSums {
  C at[kSecondOrderSums];
};

// The sums from those of dy, if all elements have the same gamma and ddgamma.
template <class C>
FUSEDNORM_INLINE SecondOrderSums<C> Weighted(const SecondOrderSums<C>& sums, C gamma,
                                             C ddgamma) {
  return {{gamma * sums.at[kSumA], gamma * sums.at[kSumAXhat], sums.at[kSumU],
           sums.at[kSumUXhat], gamma * sums.at[kSumUA], ddgamma * sums.at[kSumA],
           ddgamma * sums.at[kSumAXhat]}};
}

// What one element adds to the sums. V is a number or a vector of them.
template <class V>
FUSEDNORM_INLINE SecondOrderSums<V> SecondOrderTerms(V a, V xhat, V u, V v) {
  return {{a, a * xhat, u, u * xhat, u * a, v, v * xhat}};
}

// The group's part of the gradient of each of its elements:
// d_x = rstd * (v - of_u * u - of_a * a - plain - xhat * with_xhat)
template <class C>
struct SecondOrderShares {
  C mean_u, mean_u_xhat;
  C of_u, of_a, plain, with_xhat;
};

template <class C>
FUSEDNORM_INLINE SecondOrderShares<C> SharesOf(const SecondOrderSums<C>& sums,
                                               C inverse_count, bool centred, C rstd,
                                               C drstd) {
  const C a = centred ? sums.at[kSumA] * inverse_count : C(0);
  const C u = centred ? sums.at[kSumU] * inverse_count : C(0);
  const C a_xhat = sums.at[kSumAXhat] * inverse_count;
  const C u_xhat = sums.at[kSumUXhat] * inverse_count;
  const C slope = drstd * rstd * inverse_count;
  const C of_u = rstd * (a_xhat + slope);
  const C of_a = rstd * u_xhat;
  const C r =
      sums.at[kSumUA] * inverse_count - u * a - u_xhat * (a_xhat + C(2) * slope);
  return {
      u,
      u_xhat,
      of_u,
      of_a,
      centred ? sums.at[kSumV] * inverse_count - of_u * u - of_a * a : C(0),
      sums.at[kSumVXhat] * inverse_count - of_u * u_xhat - of_a * a_xhat + rstd * r};
}

// The results of one element. `p` is the gradient of dy * gamma. V is a number or a
// vector of them.
template <class V>
struct SecondOrderValues {
  V p, d_dy, d_x;
};

template <class V>
FUSEDNORM_INLINE SecondOrderValues<V> SecondOrderOf(V dy, V xhat, V u, V rstd, V gamma,
                                                    V ddgamma, V ddbeta,
                                                    const SecondOrderShares<V>& group) {
  const V p = rstd * (u - group.mean_u - xhat * group.mean_u_xhat);
  const V d_x = rstd * (dy * (ddgamma - group.of_a * gamma) - group.of_u * u -
                        group.plain - xhat * group.with_xhat);
  return {p, gamma * p + ddgamma * xhat + ddbeta, d_x};
}

}  // namespace fusednorm
