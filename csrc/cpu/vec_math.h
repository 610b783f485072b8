// exp, tanh, erf and the logistic function on vectors, as activation.h needs them.
//
// For float these are polynomials, fitted to near-minimax (weighted least squares,
// Lawson's iteration) and rounded to float32. They are measured through the
// activations, over the whole range of float32, by
// tests/numerics/test_activation_accuracy.py:
//   tanh     1.3 ulp
//   sigmoid  2.1 ulp (0 below -88.7, where the result is under 1e-38)
//   gelu     1.4 * 2^-24 * (1 + |z|), gelu_tanh the same: the far negative tail loses
//            its relative accuracy, as in every formula with 1 + erf
// NaN stays NaN. For double the C library is called for each lane: float64 is for
// checking, not for speed.
//
// Included only by kernels.cc, inside its per-instruction-set namespace.
#pragma once

template <class Vec>
struct VecMathBase {
  typedef typename Vec::V V;
  static FUSEDNORM_INLINE V Splat(double value) { return Vec::Splat(value); }
  static FUSEDNORM_INLINE V Select(typename Vec::Mask mask, V yes, V no) {
    return Vec::Select(mask, yes, no);
  }
  // Limits z to [-bound, bound]; NaN stays NaN.
  static FUSEDNORM_INLINE V Clamp(V z, double bound) {
    return AtLeast(Splat(-bound), AtMost(Splat(bound), z));
  }
};

template <class Vec>
struct VecMath;

template <>
struct VecMath<FloatVector> : VecMathBase<FloatVector> {
  // Coefficients come from the highest power down. They are arguments, because the
  // compiler would read and convert those of an array one by one for every vector.
  template <class... Coefficients>
  static FUSEDNORM_INLINE V Polynomial(V x, double highest, Coefficients... others) {
    V sum = Splat(highest);
    ((sum = sum * x + Splat(others)), ...);
    return sum;
  }

  static FUSEDNORM_INLINE V Exp(V x) {
    x = AtLeast(Splat(-104.0), AtMost(Splat(89.0), x));
    // Adding 1.5 * 2^23 rounds x / ln 2 to the nearest integer.
    const V magic = Splat(12582912.0);
    const V whole = x * Splat(1.4426950408889634) + magic - magic;
    // ln 2 in two parts. The first has 9 significant bits, so that its product is
    // exact.
    const V r =
        (x - whole * Splat(0.693359375)) - whole * Splat(-2.12194440054690583e-4);
    const V p = Polynomial(r, 1.3951717410236597e-3, 8.369598537683487e-3,
                           4.16661873459816e-2, 1.6666512191295624e-1, 0.5);
    return Scale(Splat(1.0) + (r + r * r * p), whole);
  }

  static FUSEDNORM_INLINE V Tanh(V x) {
    const V magnitude = Abs(x);
    const V s = x * x;
    const V small = x + x * s *
                            Polynomial(s, -5.717048887163401e-3, 2.065059170126915e-2,
                                       -5.3743500262498856e-2, 1.3331490755081177e-1,
                                       -3.333328366279602e-1);
    const V large = Splat(1.0) - Splat(2.0) / (Exp(magnitude + magnitude) + Splat(1.0));
    return Select(magnitude < Splat(0.625), small, CopySign(large, x));
  }

  static FUSEDNORM_INLINE V Erf(V x) {
    const V t = AtMost(Splat(4.0), Abs(x));  // erf(4) rounds to 1
    const V s = x * x;
    const V small = x + x * Polynomial(s, 8.215561683755368e-5, -8.106005261652172e-4,
                                       5.197801627218723e-3, -2.685810625553131e-2,
                                       1.1283672600984573e-1, -3.7612631916999817e-1,
                                       1.2837916612625122e-1);
    // erfc(t) = exp(-t * polynomial(t))
    const V large =
        Splat(1.0) - Exp(-t * Polynomial(t, 1.0763351383502595e-5, -3.18061385769397e-4,
                                         3.6229253746569157e-3, -2.372019924223423e-2,
                                         1.0618762671947479e-1, 6.351814866065979e-1,
                                         1.1286410093307495));
    return Select(Abs(x) < Splat(0.92), small, CopySign(large, x));
  }

  static FUSEDNORM_INLINE V Sigmoid(V x) { return Splat(1.0) / (Splat(1.0) + Exp(-x)); }

 private:
  // x * 2^whole, rounded once.
  static FUSEDNORM_INLINE V Scale(V x, V whole) {
#if defined(__AVX512F__)
    return BitCast<V>(
        _mm512_maskz_scalef_ps(0xffff, BitCast<__m512>(x), BitCast<__m512>(whole)));
#else
    // In two steps, because 2^whole itself may be infinite or subnormal where the
    // result is not.
    const FloatVector::Mask n = ConvertTo<FloatVector::Mask>(whole);
    const FloatVector::Mask half = n >> 1;
    return x * PowerOfTwo(half) * PowerOfTwo(n - half);
#endif
  }
  static FUSEDNORM_INLINE V PowerOfTwo(FloatVector::Mask n) {
    return BitCast<V>((n + 127) << 23);
  }
  static FUSEDNORM_INLINE V Abs(V x) {
    return BitCast<V>(BitCast<U32x16>(x) & 0x7fffffffu);
  }
  static FUSEDNORM_INLINE V CopySign(V magnitude, V sign) {
    return BitCast<V>(BitCast<U32x16>(magnitude) |
                      (BitCast<U32x16>(sign) & 0x80000000u));
  }
};

template <>
struct VecMath<DoubleVector> : VecMathBase<DoubleVector> {
  template <class Function>
  static FUSEDNORM_INLINE V Each(V x, Function function) {
    double lanes[DoubleVector::kLanes];
    Write(lanes, x);
    for (double& lane : lanes) lane = function(lane);
    return Read<V>(lanes);
  }
  static FUSEDNORM_INLINE V Exp(V x) {
    return Each(x, [](double v) { return ::exp(v); });
  }
  static FUSEDNORM_INLINE V Tanh(V x) {
    return Each(x, [](double v) { return ::tanh(v); });
  }
  static FUSEDNORM_INLINE V Erf(V x) {
    return Each(x, [](double v) { return ::erf(v); });
  }
  static FUSEDNORM_INLINE V Sigmoid(V x) { return Splat(1.0) / (Splat(1.0) + Exp(-x)); }
};
