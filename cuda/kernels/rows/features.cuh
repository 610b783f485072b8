// What an instance of the kernels of rows knows at compile time, and what it asks at
// run time.
#pragma once

#include "cuda/kernels/common/affine.cuh"
#include "cuda/kernels/common/args.h"

namespace fusednorm {
namespace cuda {

// The specialised instances. gamma and, where centred, beta are in the compute type
// with one number for each element of a row; there is no activation; accesses are 16
// bytes wide.
template <bool centred, bool residual>
struct Plain {
  static constexpr bool kGeneral = false;
  static constexpr bool kWide = true;
  static constexpr bool kBeta = centred;  // there is a dbeta
  static constexpr bool kMayHaveResidual = residual;

  FUSEDNORM_DEVICE static constexpr bool Centred(const NormArgs&) { return centred; }
  // `other` is the residual, or in backward dsum.
  FUSEDNORM_DEVICE static constexpr bool Residual(const void*) { return residual; }
  FUSEDNORM_DEVICE static constexpr bool Activated(const NormArgs&) { return false; }
  FUSEDNORM_DEVICE static constexpr bool BySample(const NormArgs&) { return false; }
  FUSEDNORM_DEVICE static constexpr bool Constant(const NormArgs&) { return false; }
  FUSEDNORM_DEVICE static constexpr int64_t FirstParam(const NormArgs&, int64_t) {
    return 0;
  }

  template <class T, int kWidth>
  FUSEDNORM_DEVICE static void Gamma(const NormArgs& args, int64_t, int i,
                                     typename Number<T>::Compute (&gamma)[kWidth]) {
    LoadConstants(static_cast<const float*>(args.affine.gamma) + i, gamma);
  }
  template <class T, int kWidth>
  FUSEDNORM_DEVICE static void GammaAndBeta(
      const NormArgs& args, int64_t first, int i,
      typename Number<T>::Compute (&gamma)[kWidth],
      typename Number<T>::Compute (&beta)[kWidth]) {
    Gamma<T, kWidth>(args, first, i, gamma);
    if constexpr (centred) {
      LoadConstants(static_cast<const float*>(args.affine.beta) + i, beta);
    } else {
#pragma unroll
      for (int e = 0; e < kWidth; ++e) beta[e] = 0;
    }
  }
};

// The general instance, which asks everything at run time.
template <bool wide>
struct General {
  static constexpr bool kGeneral = true;
  static constexpr bool kWide = wide;
  static constexpr bool kBeta = true;
  static constexpr bool kMayHaveResidual = true;

  FUSEDNORM_DEVICE static bool Centred(const NormArgs& args) { return args.centred; }
  FUSEDNORM_DEVICE static bool Residual(const void* other) { return other != nullptr; }
  FUSEDNORM_DEVICE static bool Activated(const NormArgs& args) {
    return args.activation != Activation::kNone;
  }
  FUSEDNORM_DEVICE static bool BySample(const NormArgs& args) {
    return args.rows.by_sample;
  }
  // The whole row has one gamma and beta.
  FUSEDNORM_DEVICE static bool Constant(const NormArgs& args) {
    return args.rows.mode == ParamMode::kConstant;
  }
  FUSEDNORM_DEVICE static int64_t FirstParam(const NormArgs& args, int64_t row) {
    return cuda::FirstParam(args.rows, row);
  }

  template <class T, int kWidth>
  FUSEDNORM_DEVICE static void Gamma(const NormArgs& args, int64_t first, int i,
                                     typename Number<T>::Compute (&gamma)[kWidth]) {
    typename Number<T>::Compute beta[kWidth];
    GammaAndBeta<T, kWidth>(args, first, i, gamma, beta);
  }
  template <class T, int kWidth>
  FUSEDNORM_DEVICE static void GammaAndBeta(
      const NormArgs& args, int64_t first, int i,
      typename Number<T>::Compute (&gamma)[kWidth],
      typename Number<T>::Compute (&beta)[kWidth]) {
    AffineOfRow<T, kWidth>(args.affine, args.rows, first, i, gamma, beta);
  }
};

}  // namespace cuda
}  // namespace fusednorm
