// The forward pass over either walk: statistics, then y. A unit that fits the cache is
// read from memory once. If units are cut into slices, all threads do each phase
// together, for as many units at a time as fit the last cache.
//
// Included only by kernels.cc, inside its per-instruction-set namespace.
#pragma once

template <class Data, class WalkType>
class Forward {
 public:
  typedef typename Data::Storage Storage;
  typedef typename Data::Vec::Scalar Scalar;

  Forward(const NormProblem& problem, const Partition& part, const WalkType& walk,
          const ForwardBuffers& buffers, Workspace workspace)
      : problem_(problem),
        part_(part),
        walk_(walk),
        // With a residual, everything after the prologue reads the sum.
        x_(static_cast<const Storage*>(problem.has_residual ? buffers.sum : buffers.x)),
        mean_(static_cast<Scalar*>(buffers.mean)),
        rstd_(static_cast<Scalar*>(buffers.rstd)),
        buffers_(buffers) {
    if (part.slices > 1) {
      moments_ = workspace.Take<Moments>(part.wave * part.slices * part.max_groups);
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
        for (int64_t unit = units * block / part_.blocks; unit < end;) {
          const int64_t count = Min(walk_.UnitsTogether(1), end - unit);
          RunUnits(unit, count);
          unit += count;
        }
      });
      return;
    }
    for (int64_t first = 0; first < part_.units(); first += part_.wave) {
      RunWave(parallel, first, Min(part_.wave, part_.units() - first));
    }
  }

 private:
  void RunUnits(int64_t first, int64_t count) const {
    Moments moments[WalkType::kMostTogether * WalkType::kMaxGroups];
    for (int64_t i = 0; i < count; ++i) Prologue(first + i, 0);
    if constexpr (WalkType::kMostTogether == 1) {
      walk_.Statistics(first, 0, x_, moments);
    } else {
      walk_.StatisticsOfUnits(first, count, x_, moments);
    }
    for (int64_t i = 0; i < count; ++i) {
      Finish(first + i, moments + i * WalkType::kMaxGroups, 1);
    }
    for (int64_t i = 0; i < count; ++i) Normalize(first + i, 0);
  }

  void RunWave(const ParallelFor& parallel, int64_t first, int64_t units) const {
    const int64_t slices = part_.slices;
    const int64_t tasks = units * slices;
    const int64_t elements = part_.unit_elements / slices;
    if (problem_.has_residual) {
      // The whole prologue comes before the statistics, whose origin is an element of
      // the sum.
      ForEachTask(parallel, tasks, elements, [&](int64_t task) {
        Prologue(first + task / slices, task % slices);
      });
    }
    ForEachTask(parallel, tasks, elements, [&](int64_t task) {
      walk_.Statistics(first + task / slices, task % slices, x_,
                       moments_ + task * part_.max_groups);
    });
    for (int64_t i = 0; i < units; ++i) {
      Finish(first + i, moments_ + i * slices * part_.max_groups, slices);
    }
    // Backwards, because most of what was read last is still in the cache.
    ForEachTask(parallel, tasks, elements, [&](int64_t task) {
      const int64_t back = tasks - 1 - task;
      Normalize(first + back / slices, back % slices);
    });
  }

  void Prologue(int64_t unit, int64_t slice) const {
    if (!problem_.has_residual) return;
    walk_.Prologue(unit, slice, static_cast<const Storage*>(buffers_.x),
                   static_cast<const Storage*>(buffers_.residual),
                   static_cast<Storage*>(buffers_.sum));
  }

  // Slices are joined in their order, no matter which thread computed them.
  void Finish(int64_t unit, const Moments* moments, int64_t slices) const {
    const int64_t first = walk_.FirstGroup(unit);
    const Storage* const first_element = walk_.FirstElement(unit, x_);
    const double per_element = walk_.PerElement(unit);
    for (int64_t group = 0; group < walk_.NumGroups(unit); ++group) {
      Moments all = moments[group];
      double lost = 0;
      for (int64_t slice = 1; slice < slices; ++slice) {
        all.Join(moments[slice * part_.max_groups + group], &lost);
      }
      if (problem_.centred) {
        mean_[first + group] = MeanOf(walk_.Origin(first_element, group), all);
      }
      rstd_[first + group] = RstdOf<Scalar>(all, per_element, problem_.epsilon);
    }
  }

  void Normalize(int64_t unit, int64_t slice) const {
    walk_.Normalize(unit, slice, x_, mean_, rstd_, params_,
                    static_cast<Storage*>(buffers_.y),
                    part_.streams ? Writes::kStreamed : Writes::kCached);
    if (part_.streams) EndStream();
  }

  const NormProblem& problem_;
  const Partition& part_;
  const WalkType walk_;
  const Storage* const x_;
  Scalar* const mean_;
  Scalar* const rstd_;
  const ForwardBuffers& buffers_;
  Params<Scalar> params_;
  Moments* moments_ = nullptr;
};
