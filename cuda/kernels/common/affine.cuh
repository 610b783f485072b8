// gamma, beta and the activation, applied to the elements of one access.
#pragma once

#include "core/first_order.h"
#include "cuda/kernels/common/args.h"
#include "cuda/kernels/common/math.cuh"
#include "cuda/kernels/common/number.cuh"

namespace fusednorm {
namespace cuda {

template <class T>
FUSEDNORM_DEVICE typename Number<T>::Compute ParamAt(const void* params, bool narrow,
                                                     int64_t i) {
  typedef typename Number<T>::Compute Compute;
  return narrow ? Number<T>::ToCompute(device::Load(static_cast<const T*>(params) + i))
                : device::Load(static_cast<const Compute*>(params) + i);
}

template <class T>
FUSEDNORM_DEVICE typename Number<T>::Compute ParamOrZero(const void* params,
                                                         bool narrow, int64_t i) {
  return params == nullptr ? 0 : ParamAt<T>(params, narrow, i);
}

template <class T>
FUSEDNORM_DEVICE typename Number<T>::Compute GammaAt(const Affine& affine, int64_t i) {
  typedef typename Number<T>::Compute Compute;
  if (affine.gamma == nullptr) return 1;
  return ParamAt<T>(affine.gamma, affine.narrow, i) + Compute(affine.zero_centered);
}
template <class T>
FUSEDNORM_DEVICE typename Number<T>::Compute BetaAt(const Affine& affine, int64_t i) {
  return ParamOrZero<T>(affine.beta, affine.narrow, i);
}

template <class T, int kWidth>
FUSEDNORM_DEVICE void LoadParams(const void* params, bool narrow, int64_t i,
                                 typename Number<T>::Compute (&values)[kWidth]) {
  typedef typename Number<T>::Compute Compute;
  if constexpr (kWidth == 1) {
    values[0] = ParamAt<T>(params, narrow, i);
  } else if (narrow || sizeof(T) == sizeof(Compute)) {
    Pack<T, kWidth>::LoadFrom(static_cast<const T*>(params) + i).Get(values);
  } else {
    constexpr int kStep = kFullWidth<Compute>;
#pragma unroll
    for (int step = 0; step < kWidth; step += kStep) {
      Compute some[kStep];
      Pack<Compute, kStep>::LoadFrom(static_cast<const Compute*>(params) + i + step)
          .Get(some);
#pragma unroll
      for (int j = 0; j < kStep; ++j) values[step + j] = some[j];
    }
  }
}

// Loads kWidth numbers in accesses of 16 bytes. No kernel may write them meanwhile.
template <class C, int kWidth>
FUSEDNORM_DEVICE void LoadConstants(const C* from, C (&values)[kWidth]) {
  constexpr int kStep = kFullWidth<C>;
#pragma unroll
  for (int step = 0; step < kWidth; step += kStep) {
    C some[kStep];
    Pack<C, kStep>::LoadConstantFrom(from + step).Get(some);
#pragma unroll
    for (int j = 0; j < kStep; ++j) values[step + j] = some[j];
  }
}

template <class T, int kWidth>
FUSEDNORM_DEVICE void LoadGamma(const Affine& affine, int64_t i,
                                typename Number<T>::Compute (&gamma)[kWidth]) {
  typedef typename Number<T>::Compute Compute;
  LoadParams<T, kWidth>(affine.gamma, affine.narrow, i, gamma);
#pragma unroll
  for (int e = 0; e < kWidth; ++e) gamma[e] += Compute(affine.zero_centered);
}

template <class T, int kWidth>
FUSEDNORM_DEVICE void StoreParams(void* params, bool narrow, int64_t i,
                                  const typename Number<T>::Compute (&values)[kWidth],
                                  bool stream) {
  typedef typename Number<T>::Compute Compute;
  if (narrow || sizeof(T) == sizeof(Compute)) {
    Pack<T, kWidth>::Of(values).StoreTo(static_cast<T*>(params) + i, stream);
  } else if constexpr (kWidth == 1) {
    device::Store(static_cast<Compute*>(params) + i, values[0]);
  } else {
    constexpr int kStep = kFullWidth<Compute>;
#pragma unroll
    for (int step = 0; step < kWidth; step += kStep) {
      Compute some[kStep];
#pragma unroll
      for (int j = 0; j < kStep; ++j) some[j] = values[step + j];
      Pack<Compute, kStep>::Of(some).StoreTo(static_cast<Compute*>(params) + i + step,
                                             stream);
    }
  }
}

template <class C, int kWidth>
struct AffineValues {
  C gamma[kWidth];
  C beta[kWidth];
};

// gamma and beta of an access that may cross from one run to the next. This is a call
// for the reason given at Activated below.
template <class T, int kWidth>
FUSEDNORM_DEVICE_CALL AffineValues<typename Number<T>::Compute, kWidth> AffineOfRuns(
    const Affine affine, const Divider q, bool whole_runs, int64_t first, int64_t i) {
  AffineValues<typename Number<T>::Compute, kWidth> values;
#pragma unroll
  for (int e = 0; e < kWidth; ++e) {
    if (e > 0 && whole_runs) {
      values.gamma[e] = values.gamma[0];
      values.beta[e] = values.beta[0];
      continue;
    }
    const int64_t at = first + q.Divide(i + e);
    values.gamma[e] = GammaAt<T>(affine, at);
    values.beta[e] = BetaAt<T>(affine, at);
  }
  return values;
}

// The first parameter of a row.
FUSEDNORM_DEVICE int64_t FirstParam(const Rows& rows, int64_t row) {
  const int64_t before = rows.sets.Divide(row);
  return (rows.by_sample ? before : row - before * rows.sets.divisor()) * rows.k;
}

// gamma and beta of the elements of an access at element `i` of a row whose first
// parameter is `first`.
template <class T, int kWidth>
FUSEDNORM_DEVICE void AffineOfRow(const Affine& affine, const Rows& rows, int64_t first,
                                  int64_t i,
                                  typename Number<T>::Compute (&gamma)[kWidth],
                                  typename Number<T>::Compute (&beta)[kWidth]) {
  typedef typename Number<T>::Compute Compute;
#pragma unroll
  for (int e = 0; e < kWidth; ++e) {
    gamma[e] = 1;
    beta[e] = 0;
  }
  if (affine.gamma == nullptr && affine.beta == nullptr) return;
  if (rows.mode == ParamMode::kAlong) {
    if (affine.gamma != nullptr) {
      LoadGamma<T, kWidth>(affine, first + i, gamma);
    }
    if (affine.beta != nullptr) {
      LoadParams<T, kWidth>(affine.beta, affine.narrow, first + i, beta);
    }
    return;
  }
  // Where the whole row has one gamma and beta, it is a single run.
  const AffineValues<Compute, kWidth> values =
      AffineOfRuns<T, kWidth>(affine, rows.q, rows.whole_runs, first, i);
#pragma unroll
  for (int e = 0; e < kWidth; ++e) {
    gamma[e] = values.gamma[e];
    beta[e] = values.beta[e];
  }
}

// The elements of one access in the form in which a function takes and returns them in
// registers.
template <class C, int kWidth>
struct Values {
  C at[kWidth];
};
template <class C, int kWidth>
struct ForwardVisitor {
  Values<C, kWidth>* z;
  template <class Function>
  FUSEDNORM_INLINE void operator()(Function) const {
#pragma unroll
    for (int e = 0; e < kWidth; ++e) {
      z->at[e] = Function::template Forward<Math<C>>(z->at[e]);
    }
  }
};

template <class C, int kWidth>
struct DerivativeVisitor {
  Values<C, kWidth>* z;
  template <class Function>
  FUSEDNORM_INLINE void operator()(Function) const {
#pragma unroll
    for (int e = 0; e < kWidth; ++e) {
      z->at[e] = Function::template Derivative<Math<C>>(z->at[e]);
    }
  }
};

// The number of elements that one call takes. It is small, because everything that is
// alive across the call stays in registers.
template <int kWidth>
constexpr int kCallWidth = kWidth < 4 ? kWidth : 4;

// These two functions are called, not inlined: eight activations in every unrolled step
// would be a third to a half of the code. A call takes little time beside an access to
// memory.
template <class C, int kWidth>
FUSEDNORM_DEVICE_CALL Values<C, kWidth> Activated(Activation activation,
                                                  Values<C, kWidth> z) {
  VisitActivation(activation, ForwardVisitor<C, kWidth>{&z});
  return z;
}
template <class C, int kWidth>
FUSEDNORM_DEVICE_CALL Values<C, kWidth> Derivatives(Activation activation,
                                                    Values<C, kWidth> z) {
  VisitActivation(activation, DerivativeVisitor<C, kWidth>{&z});
  return z;
}

// An activation that is known when the loop is compiled, and is inlined into it.
template <class Function>
struct Inlined {
  template <class C, int n>
  FUSEDNORM_DEVICE void Forward(C (&z)[n]) const {
#pragma unroll
    for (int e = 0; e < n; ++e) z[e] = Function::template Forward<Math<C>>(z[e]);
  }
  // dz is dy on entry and the gradient before the activation on return.
  template <class C, int n>
  FUSEDNORM_DEVICE void Backward(const C (&z)[n], C (&dz)[n]) const {
#pragma unroll
    for (int e = 0; e < n; ++e) {
      const C slope = Function::template Derivative<Math<C>>(z[e]);
      dz[e] = DzOf(dz[e], slope);
    }
  }
  static constexpr bool kIsIdentity = Function::kIsIdentity;
};
// An activation that is known at run time only, and is called.
struct Called {
  static constexpr bool kIsIdentity = false;
  Activation activation;

  template <class C, int n>
  FUSEDNORM_DEVICE void Forward(C (&z)[n]) const {
    Values<C, n> values;
#pragma unroll
    for (int e = 0; e < n; ++e) values.at[e] = z[e];
    values = Activated(activation, values);
#pragma unroll
    for (int e = 0; e < n; ++e) z[e] = values.at[e];
  }
  template <class C, int n>
  FUSEDNORM_DEVICE void Backward(const C (&z)[n], C (&dz)[n]) const {
    Values<C, n> values;
#pragma unroll
    for (int e = 0; e < n; ++e) values.at[e] = z[e];
    values = Derivatives(activation, values);
#pragma unroll
    for (int e = 0; e < n; ++e) dz[e] = DzOf(dz[e], values.at[e]);
  }
};
// Calls loop(activation) once. The most common activations are told apart outside the
// loop, which is compiled for each of them. kAny: other activations than those of
// IsInlined may come, too.
template <bool kAny, class Loop>
FUSEDNORM_DEVICE void WithActivation(Activation activation, const Loop& loop) {
  switch (activation) {
    case Activation::kNone:
      return loop(Inlined<NoActivation>());
    case Activation::kRelu:
      return loop(Inlined<Relu>());
    case Activation::kLeakyRelu:
      return loop(Inlined<LeakyRelu>());
    case Activation::kSilu:
      return loop(Inlined<Silu>());
    default:
      if constexpr (kAny) loop(Called{activation});
  }
}

// The value for element `e`, from one number for all elements or from one for each.
FUSEDNORM_DEVICE float At(float value, int) { return value; }
FUSEDNORM_DEVICE double At(double value, int) { return value; }
template <class C, int kWidth>
FUSEDNORM_DEVICE C At(const C (&values)[kWidth], int e) {
  return values[e];
}

// Normalizes the values and applies gamma and beta. mean and rstd are numbers or arrays
// of kWidth.
template <class C, int kWidth, class Stat>
FUSEDNORM_DEVICE void Normalize(const Stat& mean, const Stat& rstd,
                                const C (&gamma)[kWidth], const C (&beta)[kWidth],
                                C (&values)[kWidth]) {
#pragma unroll
  for (int e = 0; e < kWidth; ++e) {
    const C xhat = XhatOf(values[e], At(mean, e), At(rstd, e));
    values[e] = ZOf(xhat, gamma[e], beta[e]);
  }
}

// `values` are z on entry and activation(z) on return.
template <class C, int kWidth>
FUSEDNORM_DEVICE void Activate(Activation activation, C (&values)[kWidth]) {
  if (activation == Activation::kNone) return;
  constexpr int kCall = kCallWidth<kWidth>;
#pragma unroll
  for (int part = 0; part < kWidth; part += kCall) {
    Values<C, kCall> z;
#pragma unroll
    for (int e = 0; e < kCall; ++e) z.at[e] = values[part + e];
    z = Activated(activation, z);
#pragma unroll
    for (int e = 0; e < kCall; ++e) values[part + e] = z.at[e];
  }
}

// xhat is x on entry and the normalized x on return.
template <class C, int kWidth, class Stat>
FUSEDNORM_DEVICE void Center(const Stat& mean, const Stat& rstd, C (&xhat)[kWidth]) {
#pragma unroll
  for (int e = 0; e < kWidth; ++e) {
    xhat[e] = XhatOf(xhat[e], At(mean, e), At(rstd, e));
  }
}

// dz is dy on entry and the gradient before the activation on return.
template <class C, int kWidth>
FUSEDNORM_DEVICE void BeforeActivation(Activation activation, const C (&gamma)[kWidth],
                                       const C (&beta)[kWidth], const C (&xhat)[kWidth],
                                       C (&dz)[kWidth]) {
  if (activation == Activation::kNone) return;
  constexpr int kCall = kCallWidth<kWidth>;
#pragma unroll
  for (int part = 0; part < kWidth; part += kCall) {
    Values<C, kCall> z;
#pragma unroll
    for (int e = 0; e < kCall; ++e) {
      z.at[e] = ZOf(xhat[part + e], gamma[part + e], beta[part + e]);
    }
    z = Derivatives(activation, z);
#pragma unroll
    for (int e = 0; e < kCall; ++e) dz[part + e] = DzOf(dz[part + e], z.at[e]);
  }
}

// Center and BeforeActivation in one: for the instances that take any activation.
template <class C, int kWidth, class Stat>
FUSEDNORM_DEVICE void Differentiate(const NormArgs& args, const Stat& mean,
                                    const Stat& rstd, const C (&gamma)[kWidth],
                                    const C (&beta)[kWidth], C (&xhat)[kWidth],
                                    C (&dz)[kWidth]) {
  Center(mean, rstd, xhat);
  BeforeActivation(args.activation, gamma, beta, xhat, dz);
}

// The shares of a group's elements in dx, from the group's sums. dmean and drstd are
// arrays with one number for each group, or null.
template <class C>
FUSEDNORM_DEVICE FirstOrderShares<C> SharesOfGroup(const NormArgs& args,
                                                   FirstOrderSums<C> sums, C rstd,
                                                   const void* dmean, const void* drstd,
                                                   int64_t group, C inverse_count) {
  if (drstd != nullptr) {
    const C of_group = device::Load(static_cast<const C*>(drstd) + group);
    sums.with_xhat = WithDrstd(sums.with_xhat, of_group, rstd);
  }
  const C of_mean =
      dmean == nullptr ? C(0) : device::Load(static_cast<const C*>(dmean) + group);
  return SharesOf(sums, of_mean, inverse_count, args.centred);
}

}  // namespace cuda
}  // namespace fusednorm
