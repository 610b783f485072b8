// Hands out parts of the workspace, whose size the partition has computed.
//
// Included only by kernels.cc, inside its per-instruction-set namespace.
#pragma once

class Workspace {
 public:
  explicit Workspace(char* bytes) : next_(bytes) {}

  // Parts that hold doubles must be taken first, because nothing aligns later ones.
  template <class T>
  FUSEDNORM_INLINE T* Take(int64_t count) {
    T* piece = reinterpret_cast<T*>(next_);
    next_ += count * static_cast<int64_t>(sizeof(T));
    return piece;
  }

 private:
  char* next_;
};

// Memory for one task, or null if there is none left.
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

// Whether parameters must be converted or have `added` added to them.
template <class Scalar>
FUSEDNORM_INLINE bool NeedConversion(const NormProblem& problem, Scalar added) {
  return problem.param != ComputeType(problem.data) || added != 0;
}

// Sets to[i] = from[first + i] + added, in the compute type.
template <class Data>
void ConvertParams(const NormProblem& problem, const void* from, int64_t first,
                   int64_t count, typename Data::Vec::Scalar added,
                   typename Data::Vec::Scalar* to) {
  typedef typename Data::Vec Vec;
  typedef ScalarData<Vec> Scalars;
  const bool narrow = problem.param != ComputeType(problem.data);
  const auto* const stored = static_cast<const typename Data::Storage*>(from) + first;
  const auto* const wide = static_cast<const typename Vec::Scalar*>(from) + first;
  ForEachVector<Vec>(count, [&](int64_t i, auto width) {
    const typename Vec::V value =
        narrow ? Load<Data>(stored + i, width) : Load<Scalars>(wide + i, width);
    Store<Scalars>(to + i, value + added, width);
  });
}

// A parameter in the compute type, with `added` added to it. It is copied only if
// needed. Parameters of each position are as large as x; position_params.h converts
// them run by run.
template <class Data>
const typename Data::Vec::Scalar* PrepareParam(const NormProblem& problem,
                                               const void* from,
                                               typename Data::Vec::Scalar added,
                                               Workspace* workspace) {
  typedef typename Data::Vec::Scalar Scalar;
  if (from == nullptr || problem.per_position) return nullptr;
  if (!NeedConversion(problem, added)) return static_cast<const Scalar*>(from);
  Scalar* to = workspace->Take<Scalar>(problem.num_params());
  ConvertParams<Data>(problem, from, 0, problem.num_params(), added, to);
  return to;
}

// gamma is the factor itself: 1 + gamma if the problem is zero_centered.
template <class Data>
const typename Data::Vec::Scalar* PrepareGamma(const NormProblem& problem,
                                               const void* gamma,
                                               Workspace* workspace) {
  return PrepareParam<Data>(problem, gamma, problem.zero_centered ? 1 : 0, workspace);
}
