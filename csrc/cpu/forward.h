// The forward pass over either walk: statistics in two passes (mean, then deviations
// from it, which also correct the mean), then y. A unit that fits the cache is read
// from memory once; a unit cut into slices passes each phase to all threads.
//
// Included only by kernels.cc, inside its per-instruction-set namespace.
#pragma once

template <class Data, class WalkType>
class Forward {
 public:
  typedef typename Data::Storage Storage;
  typedef typename Data::Vec::Scalar Scalar;

  Forward(const NormProblem& problem, const Partition& part,
          const ForwardBuffers& buffers, Workspace workspace)
      : problem_(problem),
        part_(part),
        walk_(problem, part),
        // After the prologue everything reads the sum.
        x_(static_cast<const Storage*>(problem.has_residual ? buffers.sum : buffers.x)),
        mean_(static_cast<Scalar*>(buffers.mean)),
        rstd_(static_cast<Scalar*>(buffers.rstd)),
        buffers_(buffers) {
    if (part.slices > 1) {
      const int64_t count = part.units() * part.slices * part.max_groups;
      sums_ = workspace.Take<double>(count);
      squares_ = workspace.Take<double>(count);
    }
    params_ = {PrepareGamma<Data>(problem, buffers.gamma, &workspace),
               PrepareParam<Data>(problem, buffers.beta, 0, &workspace)};
  }

  void Run(const ParallelFor& parallel) const {
    if (part_.slices == 1) {
      const int64_t units = part_.units();
      const int64_t elements = part_.unit_elements * units / part_.blocks;
      ForEachTask(parallel, part_.blocks, elements, [&](int64_t block) {
        const int64_t end = units * (block + 1) / part_.blocks;
        for (int64_t unit = units * block / part_.blocks; unit < end; ++unit) {
          RunUnit(unit);
        }
      });
      return;
    }
    const int64_t slices = part_.slices;
    const int64_t tasks = part_.units() * slices;
    const int64_t elements = part_.unit_elements / slices;
    ForEachTask(parallel, tasks, elements, [&](int64_t task) {
      if (problem_.has_residual) Prologue(task / slices, task % slices);
    });
    if (problem_.centred) {
      ForEachTask(parallel, tasks, elements, [&](int64_t task) {
        walk_.Sum(task / slices, task % slices, x_, sums_ + task * part_.max_groups);
      });
      for (int64_t unit = 0; unit < part_.units(); ++unit) {
        FinishMean(unit, sums_ + unit * slices * part_.max_groups, slices);
      }
    }
    ForEachTask(parallel, tasks, elements, [&](int64_t task) {
      const int64_t at = task * part_.max_groups;
      walk_.Squares(task / slices, task % slices, x_, mean_, sums_ + at, squares_ + at);
    });
    for (int64_t unit = 0; unit < part_.units(); ++unit) {
      const int64_t at = unit * slices * part_.max_groups;
      FinishRstd(unit, sums_ + at, squares_ + at, slices);
    }
    ForEachTask(parallel, tasks, elements,
                [&](int64_t task) { Normalize(task / slices, task % slices); });
  }

 private:
  void RunUnit(int64_t unit) const {
    double sums[WalkType::kMaxGroups], squares[WalkType::kMaxGroups];
    Prologue(unit, 0);
    if (problem_.centred) {
      walk_.Sum(unit, 0, x_, sums);
      FinishMean(unit, sums, 1);
    }
    walk_.Squares(unit, 0, x_, mean_, sums, squares);
    FinishRstd(unit, sums, squares, 1);
    Normalize(unit, 0);
  }

  void Prologue(int64_t unit, int64_t slice) const {
    if (!problem_.has_residual) return;
    walk_.Prologue(unit, slice, static_cast<const Storage*>(buffers_.x),
                   static_cast<const Storage*>(buffers_.residual),
                   static_cast<Storage*>(buffers_.sum));
  }

  // Slices are added in their order, whoever computed them.
  double Total(const double* sums, int64_t group, int64_t slices) const {
    double total = 0;
    for (int64_t slice = 0; slice < slices; ++slice) {
      total += sums[slice * part_.max_groups + group];
    }
    return total;
  }

  void FinishMean(int64_t unit, const double* sums, int64_t slices) const {
    const int64_t first = walk_.FirstGroup(unit);
    for (int64_t group = 0; group < walk_.NumGroups(unit); ++group) {
      mean_[first + group] = MeanOf(walk_.Shift(unit, group, x_),
                                    Total(sums, group, slices), problem_.group_size());
    }
  }

  void FinishRstd(int64_t unit, const double* sums, const double* squares,
                  int64_t slices) const {
    const int64_t first = walk_.FirstGroup(unit);
    for (int64_t group = 0; group < walk_.NumGroups(unit); ++group) {
      rstd_[first + group] =
          FinishStatistics(Total(sums, group, slices), Total(squares, group, slices),
                           problem_.group_size(), problem_.epsilon, problem_.centred,
                           mean_ + first + group);
    }
  }

  void Normalize(int64_t unit, int64_t slice) const {
    walk_.Normalize(unit, slice, x_, mean_, rstd_, params_,
                    static_cast<Storage*>(buffers_.y));
  }

  const NormProblem& problem_;
  const Partition& part_;
  const WalkType walk_;
  const Storage* const x_;
  Scalar* const mean_;
  Scalar* const rstd_;
  const ForwardBuffers& buffers_;
  Params<Scalar> params_;
  double* sums_ = nullptr;
  double* squares_ = nullptr;
};
