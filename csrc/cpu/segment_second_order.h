// The arithmetic of the second order on a contiguous run of elements.
// core/second_order.h has the formulas.
//
// Included only by kernels.cc, inside its per-instruction-set namespace.
#pragma once

// The numbers that go with the elements of a run.
template <class Vec>
struct SecondOrderTransform {
  Operand<Vec> mean, rstd, gamma, ddgamma, ddbeta;
};

// The terms of one vector. kWeighted: with gamma and ddgamma. Otherwise the caller has
// to multiply the sums by them.
template <class Data, bool kWeighted, class Width>
FUSEDNORM_INLINE SecondOrderSums<typename Data::Vec::V> TermsAt(
    const typename Data::Storage* dy, const typename Data::Storage* x,
    const typename Data::Storage* ddx, int64_t i, Width width,
    const SecondOrderTransform<typename Data::Vec>& by) {
  typedef typename Data::Vec::V V;
  const V xhat =
      XhatOf(Load<Data>(x + i, width), by.mean.At(i, width), by.rstd.At(i, width));
  const V d = Load<Data>(dy + i, width);
  const V u = Load<Data>(ddx + i, width);
  if constexpr (kWeighted) {
    return SecondOrderTerms<V>(d * by.gamma.At(i, width), xhat, u,
                               d * by.ddgamma.At(i, width));
  } else {
    return SecondOrderTerms<V>(d, xhat, u, V{});
  }
}

template <bool kWeighted>
constexpr int kSumsOfRun = kWeighted ? kSecondOrderSums : kUnweightedSums;

// Sums the terms along a run.
template <class Data, bool kWeighted>
SecondOrderSums<double> SumRun(const typename Data::Storage* dy,
                               const typename Data::Storage* x,
                               const typename Data::Storage* ddx, int64_t count,
                               const SecondOrderTransform<typename Data::Vec>& by) {
  typedef typename Data::Vec Vec;
  BlockedSum<Vec> sums[kSumsOfRun<kWeighted>];
  ForEachBlock<Vec>(
      count,
      [&](int64_t i, auto width) FUSEDNORM_INLINE_LAMBDA {
        const auto terms = TermsAt<Data, kWeighted>(dy, x, ddx, i, width, by);
        for (int s = 0; s < kSumsOfRun<kWeighted>; ++s) {
          sums[s].Add(KeepTail<Vec>(terms.at[s], width));
        }
      },
      [&] {
        for (BlockedSum<Vec>& sum : sums) sum.EndBlock();
      });
  SecondOrderSums<double> totals = {};
  for (int s = 0; s < kSumsOfRun<kWeighted>; ++s) totals.at[s] = sums[s].total();
  return totals;
}

// Adds the terms of each element of a run to the element's place in arrays.
template <class Data, bool kWeighted, int64_t kLanes>
void AddRun(const typename Data::Storage* dy, const typename Data::Storage* x,
            const typename Data::Storage* ddx, int64_t count,
            const SecondOrderTransform<typename Data::Vec>& by,
            typename Data::Vec::Scalar (*arrays)[kLanes]) {
  typedef typename Data::Vec Vec;
  ForEachVector<Vec>(count, [&](int64_t i, auto width) FUSEDNORM_INLINE_LAMBDA {
    const auto terms = TermsAt<Data, kWeighted>(dy, x, ddx, i, width, by);
    for (int s = 0; s < kSumsOfRun<kWeighted>; ++s) {
      AddTo<Vec>(arrays[s] + i, terms.at[s], width);
    }
  });
}

// The group's shares of the elements of a run.
template <class Vec>
using RunShares = SecondOrderShares<Operand<Vec>>;

// Writes d_dy and d_x. d_gamma is the sum of dy * p: kAlong adds dy * p to the array
// d_gamma unless that is null, otherwise the sum is returned.
template <class Data, bool kAlong>
double WriteRun(const typename Data::Storage* dy, const typename Data::Storage* x,
                const typename Data::Storage* ddx, typename Data::Storage* d_dy,
                typename Data::Storage* d_x, int64_t count,
                const SecondOrderTransform<typename Data::Vec>& by,
                const RunShares<typename Data::Vec>& shares,
                typename Data::Vec::Scalar* d_gamma) {
  typedef typename Data::Vec Vec;
  typedef typename Vec::V V;
  BlockedSum<Vec> sum;
  ForEachBlock<Vec>(
      count,
      [&](int64_t i, auto width) FUSEDNORM_INLINE_LAMBDA {
        const V rstd = by.rstd.At(i, width);
        const V xhat = XhatOf(Load<Data>(x + i, width), by.mean.At(i, width), rstd);
        const V d = Load<Data>(dy + i, width);
        const SecondOrderShares<V> group = {
            shares.mean_u.At(i, width), shares.mean_u_xhat.At(i, width),
            shares.of_u.At(i, width),   shares.of_a.At(i, width),
            shares.plain.At(i, width),  shares.with_xhat.At(i, width)};
        const SecondOrderValues<V> values = SecondOrderOf<V>(
            d, xhat, Load<Data>(ddx + i, width), rstd, by.gamma.At(i, width),
            by.ddgamma.At(i, width), by.ddbeta.At(i, width), group);
        Store<Data>(d_dy + i, values.d_dy, width);
        Store<Data>(d_x + i, values.d_x, width);
        if constexpr (kAlong) {
          if (d_gamma != nullptr) AddTo<Vec>(d_gamma + i, d * values.p, width);
        } else {
          sum.Add(KeepTail<Vec>(d * values.p, width));
        }
      },
      [&] {
        if constexpr (!kAlong) sum.EndBlock();
      });
  return sum.total();
}
