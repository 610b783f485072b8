// The inputs of the passes, parameters in the compute type.
//
// Included only by kernels.cc, inside its per-instruction-set namespace.
#pragma once

// gamma is what multiplies (1 + gamma where that was asked for); null: absent.
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

// Inputs of the backward pass.
template <class Storage, class Scalar>
struct Gradients {
  const Storage* dy;
  const Storage* x;
  const Storage* dsum;
  const Scalar* mean;
  const Scalar* rstd;
  Params<Scalar> params;
  bool has_dmean;    // corrections have an offset
  Storage* kept_dz;  // where dz is kept between the two passes, or null
};

template <class Storage, class Scalar>
FUSEDNORM_INLINE Storage* KeptAt(const Gradients<Storage, Scalar>& in, int64_t offset) {
  return in.kept_dz == nullptr ? nullptr : in.kept_dz + offset;
}

// Inputs of the second order.
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
