// gamma and beta on their way in, dgamma and dbeta on their way out, in the compute
// type.
//
// Included only by kernels.cc, inside its per-instruction-set namespace.
#pragma once

FUSEDNORM_INLINE int64_t Min(int64_t a, int64_t b) { return a < b ? a : b; }

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
};

// One set of dgamma/dbeta partial sums, of which a task owns a range. Array sums are
// staged in the compute type over a few rows, then added to the totals in double.
template <class Scalar>
class ParamSums {
 public:
  // Where nobody wants the sums.
  ParamSums() = default;

  // `set` holds the set's 2 * params doubles, then 2 * params Scalars.
  ParamSums(char* set, int64_t params, int64_t begin, int64_t end)
      : gamma_(reinterpret_cast<double*>(set)),
        beta_(gamma_ + params),
        staged_gamma_(reinterpret_cast<Scalar*>(beta_ + params)),
        staged_beta_(staged_gamma_ + params),
        begin_(begin),
        end_(end) {
    for (int64_t i = begin_; i < end_; ++i) {
      gamma_[i] = beta_[i] = 0;
      staged_gamma_[i] = staged_beta_[i] = 0;
    }
  }

  FUSEDNORM_INLINE void Add(int64_t param, const SumPair& sums) {
    if (gamma_ == nullptr) return;
    gamma_[param] += sums.xhat;
    beta_[param] += sums.plain;
  }

  // Arrays to which one row is added, between two EndRow.
  FUSEDNORM_INLINE Scalar* StagedGamma(int64_t param) {
    return gamma_ == nullptr ? nullptr : staged_gamma_ + param;
  }
  FUSEDNORM_INLINE Scalar* StagedBeta(int64_t param) {
    return gamma_ == nullptr ? nullptr : staged_beta_ + param;
  }
  FUSEDNORM_INLINE void EndRow() {
    if (++rows_ == kRowsPerFlush) Flush();
  }
  void Flush() {
    if (gamma_ == nullptr || rows_ == 0) return;
    rows_ = 0;
    for (int64_t i = begin_; i < end_; ++i) {
      gamma_[i] += staged_gamma_[i];
      beta_[i] += staged_beta_[i];
      staged_gamma_[i] = staged_beta_[i] = 0;
    }
  }

 private:
  double* gamma_ = nullptr;
  double* beta_ = nullptr;
  Scalar* staged_gamma_ = nullptr;
  Scalar* staged_beta_ = nullptr;
  int64_t begin_ = 0;
  int64_t end_ = 0;
  int64_t rows_ = 0;
};
