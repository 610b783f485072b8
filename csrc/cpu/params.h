// The inputs of the passes, with parameters in the compute type.
//
// Included only by kernels.cc, inside its per-instruction-set namespace.
#pragma once

// gamma is the factor itself, 1 + gamma if the problem is zero_centered; null: absent.
template <class Scalar>
struct Params {
  const Scalar* gamma;
  const Scalar* beta;
  FUSEDNORM_INLINE Scalar GammaAt(int64_t i) const {
    return gamma == nullptr ? 1 : gamma[i];
  }
  FUSEDNORM_INLINE Scalar BetaAt(int64_t i) const {
    return beta == nullptr ? 0 : beta[i];
  }
};

// The inputs of the backward pass.
template <class Storage, class Scalar>
struct Gradients {
  const Storage* dy;
  const Storage* x;
  const Storage* dsum;
  const Scalar* mean;
  const Scalar* rstd;
  Params<Scalar> params;
  bool has_dmean;  // shares have an offset
};

// Where dz of one unit, or of a slice of it, waits for the second pass, in the compute
// type. There are three cases: dz is not kept; it is in dx; or, because dx would round
// it, it is packed in memory of its own. A KeptDz is small enough to be passed in
// registers.
template <class Scalar>
class KeptDz {
 public:
  KeptDz() = default;
  static FUSEDNORM_INLINE KeptDz In(Scalar* dx) { return KeptDz(dx, kInTensor); }
  // The memory of successive units is `distance` apart.
  static FUSEDNORM_INLINE KeptDz Packed(Scalar* memory, int64_t distance) {
    return KeptDz(memory, distance);
  }

  FUSEDNORM_INLINE KeptDz OfUnit(int64_t unit) const {
    return distance_ == kInTensor ? *this : KeptDz(at_ + unit * distance_, distance_);
  }
  // The distance from one unit to the next, which are `in_tensor` apart in the tensor.
  FUSEDNORM_INLINE int64_t Distance(int64_t in_tensor) const {
    return distance_ == kInTensor ? in_tensor : distance_;
  }
  // The place of dz of the next `count` elements, which are at `offset` in the tensor;
  // null: dz is not kept. Both passes must ask for the same runs in the same order.
  FUSEDNORM_INLINE Scalar* Next(int64_t offset, int64_t count) {
    if (at_ == nullptr) return nullptr;
    if (distance_ == kInTensor) return at_ + offset;
    Scalar* const run = at_;
    at_ += count;
    return run;
  }

 private:
  static constexpr int64_t kInTensor = -1;

  FUSEDNORM_INLINE KeptDz(Scalar* at, int64_t distance)
      : at_(at), distance_(distance) {}

  Scalar* at_ = nullptr;
  int64_t distance_ = kInTensor;
};

// The inputs of the second order.
template <class Scalar>
struct SecondOrderParams {
  const Scalar* gamma;
  const Scalar* ddgamma;
  const Scalar* ddbeta;
  FUSEDNORM_INLINE Scalar GammaAt(int64_t i) const {
    return gamma == nullptr ? 1 : gamma[i];
  }
  FUSEDNORM_INLINE Scalar DdgammaAt(int64_t i) const {
    return ddgamma == nullptr ? 0 : ddgamma[i];
  }
  FUSEDNORM_INLINE Scalar DdbetaAt(int64_t i) const {
    return ddbeta == nullptr ? 0 : ddbeta[i];
  }
};

template <class Storage, class Scalar>
struct SecondGradients {
  const Storage* dy;
  const Storage* x;
  const Storage* ddx;
  const Scalar* mean;
  const Scalar* rstd;
  SecondOrderParams<Scalar> params;
};
