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

// Memory of one task, or null if there is none to be had.
template <class Scalar>
class Scratch {
 public:
  explicit Scratch(int64_t count)
      : data_(count == 0 ? nullptr
                         : static_cast<Scalar*>(malloc(count * sizeof(Scalar)))) {}
  ~Scratch() { free(data_); }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;

  Scalar* data() const { return data_; }

 private:
  Scalar* const data_;
};

// A parameter in the compute type, with `added` added; a copy only where needed.
template <class Data>
const typename Data::Vec::Scalar* PrepareParam(const NormProblem& problem,
                                               const void* from,
                                               typename Data::Vec::Scalar added,
                                               Workspace* workspace) {
  typedef typename Data::Vec Vec;
  typedef typename Vec::Scalar Scalar;
  typedef ScalarData<Vec> Scalars;
  const bool converted = problem.param != ComputeType(problem.data);
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
}

// gamma is what multiplies: 1 + gamma where that was asked for.
template <class Data>
const typename Data::Vec::Scalar* PrepareGamma(const NormProblem& problem,
                                               const void* gamma,
                                               Workspace* workspace) {
  return PrepareParam<Data>(problem, gamma, problem.zero_centered ? 1 : 0, workspace);
}
