// Arithmetic in the compute type: the functions that activation.h asks for, and rstd.
#pragma once

#include <cmath>

#include "core/portability.h"

namespace fusednorm {
namespace cuda {

template <class C>
struct Math {
  typedef C V;
  FUSEDNORM_INLINE static C Splat(double value) { return static_cast<C>(value); }
  FUSEDNORM_INLINE static C Select(bool condition, C yes, C no) {
    return condition ? yes : no;
  }
  // Limits z to [-bound, bound]; NaN stays NaN.
  FUSEDNORM_INLINE static C Clamp(C z, double bound) {
    z = z > Splat(bound) ? Splat(bound) : z;
    return z < Splat(-bound) ? Splat(-bound) : z;
  }
  FUSEDNORM_INLINE static C Exp(C x) { return ::exp(x); }
  FUSEDNORM_INLINE static C Tanh(C x) { return ::tanh(x); }
  FUSEDNORM_INLINE static C Erf(C x) { return ::erf(x); }
  FUSEDNORM_INLINE static C Sigmoid(C x) { return C(1) / (C(1) + ::exp(-x)); }
  FUSEDNORM_INLINE static C Sqrt(C x) { return ::sqrt(x); }
};

template <>
struct Math<float> {
  typedef float V;
  FUSEDNORM_INLINE static float Splat(double value) {
    return static_cast<float>(value);
  }
  FUSEDNORM_INLINE static float Select(bool condition, float yes, float no) {
    return condition ? yes : no;
  }
  FUSEDNORM_INLINE static float Clamp(float z, double bound) {
#if __CUDA_ARCH__ >= 800
    asm("min.NaN.f32 %0, %0, %1;" : "+f"(z) : "f"(Splat(bound)));
    asm("max.NaN.f32 %0, %0, %1;" : "+f"(z) : "f"(Splat(-bound)));
    return z;
#else
    z = z > Splat(bound) ? Splat(bound) : z;
    return z < Splat(-bound) ? Splat(-bound) : z;
#endif
  }
  FUSEDNORM_INLINE static float Exp(float x) { return ::expf(x); }
  FUSEDNORM_INLINE static float Tanh(float x) { return ::tanhf(x); }
  FUSEDNORM_INLINE static float Erf(float x) { return ::erff(x); }
  // This takes four instructions for each element, where expf and a division take
  // sixteen. The power of 2 has an error of 2 ulp, and of about |x| / 2 ulp from the
  // rounding of its exponent. Where the power is small, the error counts for little in
  // 1 + power; where it is large, it counts for little in x * Sigmoid(x). In a
  // simulation, x * Sigmoid(x) had an error below 4 (1 + |x|) half-ulps, most of it
  // from the reciprocal, whose error is 1 ulp. Where the power overflows, the result is
  // 0.
  FUSEDNORM_INLINE static float Sigmoid(float x) {
#if defined(__CUDA_ARCH__)
    constexpr float kLog2OfE = 1.44269504f;
    float power, inverse;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(power) : "f"(x * -kLog2OfE));
    asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(inverse) : "f"(1.0f + power));
    return inverse;
#else
    return 1.0f / (1.0f + ::expf(x < -85.0f ? 85.0f : -x));
#endif
  }
  FUSEDNORM_INLINE static float Sqrt(float x) { return ::sqrtf(x); }
};

template <class C>
FUSEDNORM_INLINE C ReciprocalRoot(C value) {
  return C(1) / Math<C>::Sqrt(value);
}
#if defined(__CUDA_ARCH__)
// A correctly rounded division and square root take 40 instructions with calls, once
// for each row. This function makes one Newton step from the approximate instruction,
// and its error is one unit in the last place. The step makes NaN of infinity, hence
// the last line.
template <>
__device__ __forceinline__ float ReciprocalRoot<float>(float value) {
  const float root = rsqrtf(value);
  const float error = fmaf(value * root, -root, 1.0f);
  return error == error ? fmaf(0.5f * root, error, root) : root;
}
#endif

// `value` is zero only for a constant group with epsilon = 0. The result of the norm is
// then beta.
template <class C>
FUSEDNORM_INLINE C InverseSqrt(C value) {
  return value == C(0) ? C(0) : ReciprocalRoot(value);
}

template <class C>
FUSEDNORM_INLINE C Median(C a, C b, C c) {
  const C low = a < b ? a : b, high = a < b ? b : a;
  const C upper = high < c ? high : c;
  return low < upper ? upper : low;
}

// The variance from the sums of d and of d^2, where d is the deviation from a value
// near the mean.
template <class C>
FUSEDNORM_INLINE C Variance(C sum, C squares, C inverse_count) {
  const C variance = (squares - sum * (sum * inverse_count)) * inverse_count;
  return variance < C(0) ? C(0) : variance;  // below 0 by rounding; NaN stays
}

}  // namespace cuda
}  // namespace fusednorm
