// The epilogue: y = activation(z), and its derivative for the backward pass.
//
// There is one functor for each activation, which every kernel on every device uses.
// `M` is the math of the caller: a value type `M::V` (a SIMD vector on the CPU, a
// scalar in CUDA) with the functions Splat, Exp, Tanh, Erf, Sigmoid, Clamp and Select.
// A new activation takes one functor and one enumerator here, one name in names.cc, and
// one line in VisitActivation. kIsTranscendental says that Derivative costs more than
// to write its result to the cache and to read it again.
#pragma once

#include <string>

#include "core/portability.h"

namespace fusednorm {

enum class Activation {
  kNone,
  kRelu,
  kLeakyRelu,
  kSilu,
  kGelu,
  kGeluTanh,
  kTanh,
  kSigmoid
};

const char* Name(Activation activation);
bool ActivationFromName(const std::string& name, Activation* activation);
// All names, separated by commas, for messages.
std::string ActivationNames();

// Keras's slope, which is also TensorFlow's.
constexpr double kLeakyReluSlope = 0.2;

struct NoActivation {
  static constexpr bool kIsIdentity = true;
  static constexpr bool kIsTranscendental = false;
  template <class M>
  FUSEDNORM_INLINE static typename M::V Forward(typename M::V z) {
    return z;
  }
  template <class M>
  FUSEDNORM_INLINE static typename M::V Derivative(typename M::V) {
    return M::Splat(1.0);
  }
};

// The comparisons are written so that NaN takes the branch that keeps it.
struct Relu {
  static constexpr bool kIsIdentity = false;
  static constexpr bool kIsTranscendental = false;
  template <class M>
  FUSEDNORM_INLINE static typename M::V Forward(typename M::V z) {
    return M::Select(z <= M::Splat(0.0), M::Splat(0.0), z);
  }
  template <class M>
  FUSEDNORM_INLINE static typename M::V Derivative(typename M::V z) {
    return M::Select(z > M::Splat(0.0), M::Splat(1.0), M::Splat(0.0));
  }
};

struct LeakyRelu {
  static constexpr bool kIsIdentity = false;
  static constexpr bool kIsTranscendental = false;
  template <class M>
  FUSEDNORM_INLINE static typename M::V Forward(typename M::V z) {
    return M::Select(z <= M::Splat(0.0), z * M::Splat(kLeakyReluSlope), z);
  }
  template <class M>
  FUSEDNORM_INLINE static typename M::V Derivative(typename M::V z) {
    return M::Select(z > M::Splat(0.0), M::Splat(1.0), M::Splat(kLeakyReluSlope));
  }
};

struct Silu {
  static constexpr bool kIsIdentity = false;
  static constexpr bool kIsTranscendental = true;
  template <class M>
  FUSEDNORM_INLINE static typename M::V Forward(typename M::V z) {
    return z * M::Sigmoid(z);
  }
  template <class M>
  FUSEDNORM_INLINE static typename M::V Derivative(typename M::V z) {
    const typename M::V s = M::Sigmoid(z);
    // Beyond |z| = 100 the derivative equals its limit. Clamp keeps an infinite z from
    // making inf * 0, which is NaN.
    const typename M::V bounded = M::Clamp(z, 100.0);
    return s + bounded * s * (M::Splat(1.0) - s);
  }
};

// z * Phi(z), where Phi is the normal distribution function.
struct Gelu {
  static constexpr bool kIsIdentity = false;
  static constexpr bool kIsTranscendental = true;
  template <class M>
  FUSEDNORM_INLINE static typename M::V Phi(typename M::V z) {
    return M::Splat(0.5) + M::Splat(0.5) * M::Erf(z * M::Splat(0.70710678118654752));
  }
  template <class M>
  FUSEDNORM_INLINE static typename M::V Forward(typename M::V z) {
    return z * Phi<M>(z);
  }
  template <class M>
  FUSEDNORM_INLINE static typename M::V Derivative(typename M::V z) {
    const typename M::V bounded = M::Clamp(z, 100.0);
    const typename M::V density =
        M::Splat(0.39894228040143268) * M::Exp(M::Splat(-0.5) * bounded * bounded);
    return Phi<M>(z) + bounded * density;
  }
};

// The tanh form: z/2 (1 + tanh(sqrt(2/pi) (z + 0.044715 z^3))).
struct GeluTanh {
  static constexpr bool kIsIdentity = false;
  static constexpr bool kIsTranscendental = true;
  static constexpr double kScale = 0.79788456080286536;
  static constexpr double kCubic = 0.044715;
  template <class M>
  FUSEDNORM_INLINE static typename M::V Inner(typename M::V z) {
    return M::Tanh(M::Splat(kScale) * z * (M::Splat(1.0) + M::Splat(kCubic) * z * z));
  }
  template <class M>
  FUSEDNORM_INLINE static typename M::V Forward(typename M::V z) {
    // tanh is 1 to the last bit of a double long before |z| = 100.
    return M::Splat(0.5) * z * (M::Splat(1.0) + Inner<M>(M::Clamp(z, 100.0)));
  }
  template <class M>
  FUSEDNORM_INLINE static typename M::V Derivative(typename M::V z) {
    const typename M::V bounded = M::Clamp(z, 100.0);
    const typename M::V t = Inner<M>(bounded);
    const typename M::V slope =
        M::Splat(kScale) * (M::Splat(1.0) + M::Splat(3 * kCubic) * bounded * bounded);
    return M::Splat(0.5) * (M::Splat(1.0) + t) +
           M::Splat(0.5) * bounded * (M::Splat(1.0) - t * t) * slope;
  }
};

struct Tanh {
  static constexpr bool kIsIdentity = false;
  static constexpr bool kIsTranscendental = true;
  template <class M>
  FUSEDNORM_INLINE static typename M::V Forward(typename M::V z) {
    return M::Tanh(z);
  }
  template <class M>
  FUSEDNORM_INLINE static typename M::V Derivative(typename M::V z) {
    const typename M::V t = M::Tanh(z);
    return M::Splat(1.0) - t * t;
  }
};

struct Sigmoid {
  static constexpr bool kIsIdentity = false;
  static constexpr bool kIsTranscendental = true;
  template <class M>
  FUSEDNORM_INLINE static typename M::V Forward(typename M::V z) {
    return M::Sigmoid(z);
  }
  template <class M>
  FUSEDNORM_INLINE static typename M::V Derivative(typename M::V z) {
    const typename M::V s = M::Sigmoid(z);
    return s * (M::Splat(1.0) - s);
  }
};

// Calls visit(functor) with the functor of a run-time activation.
template <class Visitor>
FUSEDNORM_INLINE void VisitActivation(Activation activation, Visitor&& visit) {
  switch (activation) {
    case Activation::kNone:
      return visit(NoActivation());
    case Activation::kRelu:
      return visit(Relu());
    case Activation::kLeakyRelu:
      return visit(LeakyRelu());
    case Activation::kSilu:
      return visit(Silu());
    case Activation::kGelu:
      return visit(Gelu());
    case Activation::kGeluTanh:
      return visit(GeluTanh());
    case Activation::kTanh:
      return visit(Tanh());
    case Activation::kSigmoid:
      return visit(Sigmoid());
  }
}

}  // namespace fusednorm
