// Gradients of parameters. Tasks sum them into sets of partial sums. The sets are then
// added up in a fixed order, so that the results do not depend on threads.
//
// Included only by kernels.cc, inside its per-instruction-set namespace.
#pragma once

// One set of partial sums of `kSums` gradients of parameters, of which a task owns a
// range. Array sums are staged in the compute type over a few rows, then added to the
// totals in double.
template <class Scalar, int kSums>
class ParamSums {
 public:
  static constexpr int kCount = kSums;

  // For gradients that are not wanted.
  ParamSums() = default;

  // `set` has SetBytes bytes.
  ParamSums(char* set, int64_t params, int64_t begin, int64_t end)
      : totals_(reinterpret_cast<double*>(set)),
        staged_(reinterpret_cast<Scalar*>(totals_ + kSums * params)),
        params_(params),
        begin_(begin),
        end_(end) {
    ForEach([](double& total, Scalar& staged) {
      total = 0;
      staged = 0;
    });
  }

  FUSEDNORM_INLINE void Add(int which, int64_t param, double sum) {
    if (totals_ != nullptr) totals_[which * params_ + param] += sum;
  }

  // An array to which rows are added. EndRows must follow, with the number of these
  // rows.
  FUSEDNORM_INLINE Scalar* Staged(int which, int64_t param) {
    return totals_ == nullptr ? nullptr : staged_ + which * params_ + param;
  }
  FUSEDNORM_INLINE void EndRows(int64_t count) {
    rows_ += count;
    if (rows_ >= kRowsPerFlush) Flush();
  }
  void Flush() {
    if (totals_ == nullptr || rows_ == 0) return;
    rows_ = 0;
    ForEach([](double& total, Scalar& staged) {
      total += staged;
      staged = 0;
    });
  }

 private:
  template <class Function>
  FUSEDNORM_INLINE void ForEach(Function&& function) {
    for (int which = 0; which < kSums; ++which) {
      for (int64_t i = begin_; i < end_; ++i) {
        function(totals_[which * params_ + i], staged_[which * params_ + i]);
      }
    }
  }

  double* totals_ = nullptr;
  Scalar* staged_ = nullptr;
  int64_t params_ = 0;
  int64_t begin_ = 0;
  int64_t end_ = 0;
  int64_t rows_ = 0;
};

// The sums of the backward pass, for dgamma and dbeta.
template <class Scalar>
class GradientSums : public ParamSums<Scalar, 2> {
 public:
  static constexpr int kGamma = 0;
  static constexpr int kBeta = 1;
  using ParamSums<Scalar, 2>::ParamSums;

  FUSEDNORM_INLINE void AddPair(int64_t param, const SumPair& sums) {
    this->Add(kGamma, param, sums.with_xhat);
    this->Add(kBeta, param, sums.plain);
  }
};

// Adds up sets of partial sums in a fixed order, on the caller's threads.
template <class Data>
class SetSums {
 public:
  typedef typename Data::Vec::Scalar Scalar;

  SetSums(const NormProblem& problem, const char* sets, int64_t set_bytes,
          int64_t num_sets)
      : problem_(problem), sets_(sets), set_bytes_(set_bytes), num_sets_(num_sets) {}

  // outputs[which] is null if it is not wanted.
  template <int kSums>
  void Run(const ParallelFor& parallel, void* const (&outputs)[kSums]) const {
    if (num_sets_ == 0) return;
    const int64_t params = problem_.num_params();
    const int64_t tasks = (params + kParamsPerTask - 1) / kParamsPerTask;
    ForEachTask(parallel, tasks, kParamsPerTask * num_sets_, [&](int64_t task) {
      const int64_t begin = task * kParamsPerTask;
      const int64_t end = Min(begin + kParamsPerTask, params);
      for (int which = 0; which < kSums; ++which) {
        if (outputs[which] == nullptr) continue;
        SumOne(which * params, begin, end, outputs[which]);
      }
    });
  }

 private:
  static constexpr int64_t kParamsPerTask = 1024;

  void SumOne(int64_t first, int64_t begin, int64_t end, void* to) const {
    double totals[kParamsPerTask];
    const int64_t count = end - begin;
    for (int64_t i = 0; i < count; ++i) totals[i] = 0;
    for (int64_t set = 0; set < num_sets_; ++set) {
      const auto* sums =
          reinterpret_cast<const double*>(sets_ + set * set_bytes_) + first + begin;
      for (int64_t i = 0; i < count; ++i) totals[i] += sums[i];
    }
    if (problem_.param == ComputeType(problem_.data)) {
      auto* const sums = static_cast<Scalar*>(to) + begin;
      for (int64_t i = 0; i < count; ++i) sums[i] = static_cast<Scalar>(totals[i]);
      return;
    }
    auto* const sums = static_cast<typename Data::Storage*>(to) + begin;
    for (int64_t i = 0; i < count; ++i) {
      Store<Data>(sums + i, Data::Vec::Splat(totals[i]), Partial{1});
    }
  }

  const NormProblem& problem_;
  const char* const sets_;
  const int64_t set_bytes_;
  const int64_t num_sets_;
};
