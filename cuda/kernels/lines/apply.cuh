// From the statistics of lanes to y and dx of a thread's accesses.
#pragma once

#include "cuda/kernels/common/affine.cuh"
#include "cuda/kernels/lines/constants.cuh"
#include "cuda/kernels/lines/place.cuh"
#include "cuda/kernels/mask/mask.cuh"

namespace fusednorm {
namespace cuda {

// Stores gamma and beta of one lane of a part. Where they belong to rows or to
// positions, LineAffine loads them instead.
template <class T, int kWidth>
FUSEDNORM_DEVICE void SetAffine(
    const NormArgs& args, const LinesGeometry& g, const LineSet& set,
    int64_t first_lane, int lane,
    const LaneConstants<typename Number<T>::Compute, kWidth>& constants) {
  typedef typename Number<T>::Compute C;
  C gamma = 1, beta = 0;
  if (!g.columns && !g.positions) {
    const int64_t param = ParamOfLane(g, set, first_lane, lane);
    gamma = GammaAt<T>(args.affine, param);
    beta = BetaAt<T>(args.affine, param);
  }
  constants.Set(kLaneGamma, lane, gamma);
  constants.Set(kLaneBeta, lane, beta);
}

// gamma and beta of an access in the general instance.
template <class T, int kWidth>
struct LineAffine {
  typedef typename Number<T>::Compute C;
  C gamma[kWidth], beta[kWidth];

  // `at` is the place of the access in the tensor.
  FUSEDNORM_DEVICE LineAffine(const NormArgs& args, const LinesGeometry& g,
                              const LineSet& set, const LaneConstants<C, kWidth>& lanes,
                              int column, int64_t row, int64_t at) {
    const Affine& affine = args.affine;
    if (g.columns && !g.positions) {
      const C row_gamma = GammaAt<T>(affine, set.first_param + row);
      const C row_beta = BetaAt<T>(affine, set.first_param + row);
#pragma unroll
      for (int e = 0; e < kWidth; ++e) {
        gamma[e] = row_gamma;
        beta[e] = row_beta;
      }
      return;
    }
    lanes.GetAll(kLaneGamma, column, gamma);
    lanes.GetAll(kLaneBeta, column, beta);
    if (!g.positions) return;
    if (affine.gamma != nullptr) LoadGamma<T, kWidth>(affine, at, gamma);
    if (affine.beta != nullptr) {
      LoadParams<T, kWidth>(affine.beta, affine.narrow, at, beta);
    }
  }
};

// gamma and beta of a column's accesses in a plain instance of interleaved groups: each
// lane has its own, which all rows share.
template <class C, int kWidth>
struct LaneParams {
  static constexpr bool kOfRows = false;
  static constexpr int kStep = LaneConstants<C, kWidth>::kStep;
  const LaneConstants<C, kWidth>& constants;
  int column;

  FUSEDNORM_DEVICE void Gamma(int part, int, C (&gamma)[kStep]) const {
    constants.Get(kLaneGamma, part, column, gamma);
  }
  FUSEDNORM_DEVICE void Beta(int part, int, C (&beta)[kStep]) const {
    constants.Get(kLaneBeta, part, column, beta);
  }
};

// gamma and beta of a column's accesses in a plain instance of columns: each access has
// those of its row.
template <class C, int kVectors>
struct RowParams {
  static constexpr bool kOfRows = true;
  C gamma[kVectors], beta[kVectors];

  template <int n>
  FUSEDNORM_DEVICE void Gamma(int, int v, C (&values)[n]) const {
#pragma unroll
    for (int e = 0; e < n; ++e) values[e] = gamma[v];
  }
  template <int n>
  FUSEDNORM_DEVICE void Beta(int, int v, C (&values)[n]) const {
#pragma unroll
    for (int e = 0; e < n; ++e) values[e] = beta[v];
  }
};

// Replaces x by y in the accesses of a column.
template <class T, int kWidth, int kVectors, class Params, class Act>
FUSEDNORM_DEVICE void NormalizeBatch(
    const LaneConstants<typename Number<T>::Compute, kWidth>& constants, int column,
    const Params& params, const Act& activation, Pack<T, kWidth> (&packs)[kVectors]) {
  typedef typename Number<T>::Compute C;
  constexpr int kStep = LaneConstants<C, kWidth>::kStep;
#pragma unroll
  for (int part = 0; part < kWidth / kStep; ++part) {
    C mean[kStep], rstd[kStep], gamma[kStep], beta[kStep], values[kStep];
    constants.Get(kLaneMean, part, column, mean);
    constants.Get(kLaneRstd, part, column, rstd);
#pragma unroll
    for (int v = 0; v < kVectors; ++v) {
      if (Params::kOfRows || v == 0) {
        params.Gamma(part, v, gamma);
        params.Beta(part, v, beta);
      }
      packs[v].GetPart(part, values);
      Normalize(mean, rstd, gamma, beta, values);
      activation.Forward(values);
      packs[v].SetPart(part, values);
    }
  }
}

// The sums of dz and of dz * xhat over a column, for each lane.
template <class C, int kWidth>
struct LaneSums {
  C plain[kWidth], with_xhat[kWidth];

  FUSEDNORM_DEVICE LaneSums() {
#pragma unroll
    for (int e = 0; e < kWidth; ++e) plain[e] = with_xhat[e] = 0;
  }
  FUSEDNORM_DEVICE void Add(int, int e, C dz, C xhat, C) {
    const FirstOrderSums<C> terms = FirstOrderTerms(dz, xhat);
    plain[e] += terms.plain;
    with_xhat[e] += terms.with_xhat;
  }
};

// The same where each row has its own gamma. Here a = dz * gamma, and the sums over a
// column are of a and of a * xhat. In addition, each access has its part of the
// gradients of its row's gamma and beta.
template <class C, int kWidth, int kVectors>
struct RowSums : LaneSums<C, kWidth> {
  C of_gamma[kVectors], of_beta[kVectors];

  FUSEDNORM_DEVICE RowSums() {
#pragma unroll
    for (int v = 0; v < kVectors; ++v) of_gamma[v] = of_beta[v] = 0;
  }
  FUSEDNORM_DEVICE void Add(int v, int e, C dz, C xhat, C gamma) {
    const FirstOrderSums<C> terms = FirstOrderTerms(dz, xhat);
    of_beta[v] += terms.plain;
    of_gamma[v] += terms.with_xhat;
    LaneSums<C, kWidth>::Add(v, e, dz * gamma, xhat, gamma);
  }
};

// Turns x and dy into xhat and dz, for some elements of access `v` of a column.
template <class C, int n, class Params, class Act>
FUSEDNORM_DEVICE void DifferentiatePart(const Params& params, int part, int v,
                                        const C (&mean)[n], const C (&rstd)[n],
                                        const C (&gamma)[n], const Act& activation,
                                        C (&xhat)[n], C (&dz)[n]) {
  Center(mean, rstd, xhat);
  if constexpr (!Act::kIsIdentity) {
    C z[n];
    params.Beta(part, v, z);
#pragma unroll
    for (int e = 0; e < n; ++e) z[e] = ZOf(xhat[e], gamma[e], z[e]);
    activation.Backward(z, dz);
  }
}

// Adds the first `count` accesses of a column to LaneSums or RowSums.
template <class T, int kWidth, int kVectors, class Params, class Act, class Sums>
FUSEDNORM_DEVICE void AddBatch(
    const LaneConstants<typename Number<T>::Compute, kWidth>& constants, int column,
    const Params& params, const Act& activation, const Pack<T, kWidth> (&x)[kVectors],
    const Pack<T, kWidth> (&dy)[kVectors], int count, Sums* sums) {
  typedef typename Number<T>::Compute C;
  constexpr int kStep = LaneConstants<C, kWidth>::kStep;
#pragma unroll
  for (int part = 0; part < kWidth / kStep; ++part) {
    C mean[kStep], rstd[kStep], gamma[kStep] = {}, xhat[kStep], dz[kStep];
    constants.Get(kLaneMean, part, column, mean);
    constants.Get(kLaneRstd, part, column, rstd);
    if (!Params::kOfRows && !Act::kIsIdentity) params.Gamma(part, 0, gamma);
#pragma unroll
    for (int v = 0; v < kVectors; ++v) {
      if (v >= count) continue;
      if (Params::kOfRows) params.Gamma(part, v, gamma);
      x[v].GetPart(part, xhat);
      dy[v].GetPart(part, dz);
      DifferentiatePart(params, part, v, mean, rstd, gamma, activation, xhat, dz);
#pragma unroll
      for (int e = 0; e < kStep; ++e) {
        sums->Add(v, part * kStep + e, dz[e], xhat[e], gamma[e]);
      }
    }
  }
}

// Replaces x by dx in the accesses of a column.
template <class T, int kWidth, int kVectors, class Params, class Act>
FUSEDNORM_DEVICE void GradientBatch(
    const LaneConstants<typename Number<T>::Compute, kWidth>& constants, int column,
    const Params& params, const Act& activation, const Pack<T, kWidth> (&dy)[kVectors],
    Pack<T, kWidth> (&x)[kVectors]) {
  typedef typename Number<T>::Compute C;
  constexpr int kStep = LaneConstants<C, kWidth>::kStep;
#pragma unroll
  for (int part = 0; part < kWidth / kStep; ++part) {
    C mean[kStep], rstd[kStep], gamma[kStep], by_xhat[kStep], added[kStep];
    C xhat[kStep], dz[kStep];
    constants.Get(kLaneMean, part, column, mean);
    constants.Get(kLaneRstd, part, column, rstd);
    constants.Get(kLaneXhat, part, column, by_xhat);
    constants.Get(kLaneAdded, part, column, added);
#pragma unroll
    for (int v = 0; v < kVectors; ++v) {
      if (Params::kOfRows || v == 0) params.Gamma(part, v, gamma);
      x[v].GetPart(part, xhat);
      dy[v].GetPart(part, dz);
      DifferentiatePart(params, part, v, mean, rstd, gamma, activation, xhat, dz);
#pragma unroll
      for (int e = 0; e < kStep; ++e) {
        const JoinedShares<C> shares = {by_xhat[e], added[e]};
        dz[e] = DxOf(dz[e], gamma[e], xhat[e], rstd[e], shares);
      }
      x[v].SetPart(part, dz);
    }
  }
}

}  // namespace cuda
}  // namespace fusednorm
