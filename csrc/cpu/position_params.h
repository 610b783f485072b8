// gamma and beta of each position, and their gradients, for one run of the tensor at a
// time.
//
// Included only by kernels.cc, inside its per-instruction-set namespace.
#pragma once

template <class Data>
class PositionParams {
 public:
  typedef typename Data::Vec Vec;
  typedef typename Vec::Scalar Scalar;

  PositionParams(const NormProblem& problem, const ForwardBuffers& buffers)
      : problem_(problem), gamma_(buffers.gamma), beta_(buffers.beta) {}
  PositionParams(const NormProblem& problem, const BackwardBuffers& buffers)
      : problem_(problem),
        gamma_(buffers.gamma),
        beta_(buffers.beta),
        dgamma_(buffers.dgamma),
        dbeta_(buffers.dbeta) {}

  FUSEDNORM_INLINE bool exist() const { return problem_.per_position; }

  // gamma of `count` elements at `offset`. If it must be converted, it is written to
  // `memory`.
  FUSEDNORM_INLINE Operand<Vec> Gamma(int64_t offset, int64_t count,
                                      Scalar* memory) const {
    return OfRun(gamma_, 1, problem_.zero_centered ? 1 : 0, offset, count, memory);
  }
  FUSEDNORM_INLINE Operand<Vec> Beta(int64_t offset, int64_t count,
                                     Scalar* memory) const {
    return OfRun(beta_, 0, 0, offset, count, memory);
  }

  // dz and dz * xhat of each element are the gradients of its beta and gamma.
  void StoreGradients(int64_t offset, int64_t count, const Scalar* dz,
                      const Scalar* dz_xhat) const {
    StoreRun(dz, dbeta_, offset, count);
    StoreRun(dz_xhat, dgamma_, offset, count);
  }

 private:
  Operand<Vec> OfRun(const void* params, Scalar absent, Scalar added, int64_t offset,
                     int64_t count, Scalar* memory) const {
    if (params == nullptr) return Operand<Vec>::Same(absent);
    if (!NeedConversion(problem_, added)) {
      return Operand<Vec>::Along(static_cast<const Scalar*>(params) + offset);
    }
    ConvertParams<Data>(problem_, params, offset, count, added, memory);
    return Operand<Vec>::Along(memory);
  }

  void StoreRun(const Scalar* gradients, void* to, int64_t offset,
                int64_t count) const {
    if (to == nullptr) return;
    const bool narrow = problem_.param != ComputeType(problem_.data);
    auto* const stored = static_cast<typename Data::Storage*>(to) + offset;
    auto* const wide = static_cast<Scalar*>(to) + offset;
    ForEachVector<Vec>(count, [&](int64_t i, auto width) {
      const typename Vec::V value = Load<ScalarData<Vec>>(gradients + i, width);
      if (narrow) {
        Store<Data>(stored + i, value, width);
      } else {
        Store<ScalarData<Vec>>(wide + i, value, width);
      }
    });
  }

  const NormProblem& problem_;
  const void* const gamma_;
  const void* const beta_;
  void* const dgamma_ = nullptr;  // null: not wanted
  void* const dbeta_ = nullptr;
};
