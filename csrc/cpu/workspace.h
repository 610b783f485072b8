// Hands out pieces of the workspace that the partition has sized.
//
// Included only by kernels.cc, inside its per-instruction-set namespace.
#pragma once

class Workspace {
 public:
  explicit Workspace(char* bytes) : next_(bytes) {}

  // Pieces of doubles first: nothing aligns them.
  template <class T>
  FUSEDNORM_INLINE T* Take(int64_t count) {
    T* piece = reinterpret_cast<T*>(next_);
    next_ += count * static_cast<int64_t>(sizeof(T));
    return piece;
  }

 private:
  char* next_;
};

// gamma (with its 1 added) and beta in the compute type; a copy only where needed.
template <class Data>
Params<typename Data::Vec::Scalar> PrepareParams(const NormProblem& problem,
                                                 const void* gamma, const void* beta,
                                                 Workspace* workspace) {
  typedef typename Data::Vec Vec;
  typedef typename Vec::Scalar Scalar;
  typedef typename ScalarDataOf<Vec>::type Scalars;
  const bool converted = problem.param != ComputeType(problem.data);
  const auto prepare = [&](const void* from, Scalar added) -> const Scalar* {
    if (from == nullptr) return nullptr;
    if (!converted && added == 0) return static_cast<const Scalar*>(from);
    Scalar* to = workspace->Take<Scalar>(problem.num_params());
    ForEachVector<Vec>(problem.num_params(), [&](int64_t i, auto width) {
      const typename Vec::V value =
          converted
              ? Load<Data>(static_cast<const typename Data::Storage*>(from) + i, width)
              : Load<Scalars>(static_cast<const Scalar*>(from) + i, width);
      Store<Scalars>(to + i, value + added, width);
    });
    return to;
  };
  return {prepare(problem.has_gamma ? gamma : nullptr, problem.zero_centered ? 1 : 0),
          prepare(problem.has_beta ? beta : nullptr, 0)};
}
