// The backward pass over either walk: a group's two sums and its share of dgamma/dbeta
// in one pass over x and dy, dx in a second, from the cache where the unit fits.
//
// Included only by kernels.cc, inside its per-instruction-set namespace.
#pragma once

template <class Data, class WalkType>
class Backward {
 public:
  typedef typename Data::Storage Storage;
  typedef typename Data::Vec Vec;
  typedef typename Vec::Scalar Scalar;

  Backward(const NormProblem& problem, const Partition& part,
           const BackwardBuffers& buffers, Workspace workspace)
      : problem_(problem), part_(part), walk_(problem, part), buffers_(buffers) {
    if (part.slices > 1) {
      sums_ = workspace.Take<SumPair>(part.units() * part.slices * part.max_groups);
    }
    set_bytes_ = SetBytes(problem, GradientSums<Scalar>::kCount);
    sets_ = workspace.Take<char>(part.sets * set_bytes_);
    if (part.slices > 1) {
      corrections_ =
          workspace.Take<GroupCorrection<Scalar>>(part.units() * part.max_groups);
    }
    in_ = {static_cast<const Storage*>(buffers.dy),
           static_cast<const Storage*>(buffers.x),
           static_cast<const Storage*>(buffers.dsum),
           static_cast<const Scalar*>(buffers.mean),
           static_cast<const Scalar*>(buffers.rstd),
           {PrepareGamma<Data>(problem, buffers.gamma, &workspace),
            PrepareParam<Data>(problem, buffers.beta, 0, &workspace)}};
  }

  void Run(const ParallelFor& parallel) const {
    if (part_.slices == 1) {
      RunWholeUnits(parallel);
    } else {
      RunSlices(parallel);
    }
    SetSums<Data>(problem_, sets_, set_bytes_, part_.sets)
        .Run(parallel, {buffers_.dgamma, buffers_.dbeta});
  }

 private:
  void RunWholeUnits(const ParallelFor& parallel) const {
    const int64_t elements = part_.unit_elements * part_.outer / part_.blocks;
    ForEachTask(parallel, part_.blocks * part_.inner, elements, [&](int64_t task) {
      const int64_t block = task / part_.inner;
      const int64_t inner = task - block * part_.inner;
      GradientSums<Scalar> params_sum = OwnedSums(block, inner, 0);
      const int64_t end = part_.outer * (block + 1) / part_.blocks;
      for (int64_t outer = part_.outer * block / part_.blocks; outer < end; ++outer) {
        const int64_t unit = outer * part_.inner + inner;
        SumPair sums[WalkType::kMaxGroups];
        GroupCorrection<Scalar> corrections[WalkType::kMaxGroups];
        walk_.ReduceGradients(unit, 0, in_, &params_sum, sums);
        Correct(unit, sums, 1, corrections);
        WriteGradient(unit, 0, corrections);
      }
      params_sum.Flush();
    });
  }

  void RunSlices(const ParallelFor& parallel) const {
    const int64_t slices = part_.slices;
    const int64_t elements = part_.unit_elements / slices;
    const auto reduce = [&](int64_t unit, int64_t slice,
                            GradientSums<Scalar>* params_sum) {
      walk_.ReduceGradients(unit, slice, in_, params_sum,
                            sums_ + (unit * slices + slice) * part_.max_groups);
    };
    if (part_.slices_own_params) {
      ForEachTask(parallel, part_.inner * slices, elements * part_.outer,
                  [&](int64_t task) {
                    const int64_t inner = task / slices;
                    const int64_t slice = task - inner * slices;
                    GradientSums<Scalar> params_sum = OwnedSums(0, inner, slice);
                    for (int64_t outer = 0; outer < part_.outer; ++outer) {
                      reduce(outer * part_.inner + inner, slice, &params_sum);
                    }
                    params_sum.Flush();
                  });
    } else {
      ForEachTask(parallel, part_.units() * slices, elements, [&](int64_t task) {
        const int64_t unit = task / slices;
        const int64_t slice = task - unit * slices;
        const int64_t outer = unit / part_.inner;
        GradientSums<Scalar> params_sum =
            OwnedSums(outer * slices + slice, unit - outer * part_.inner, slice);
        reduce(unit, slice, &params_sum);
        params_sum.Flush();
      });
    }
    for (int64_t unit = 0; unit < part_.units(); ++unit) {
      Correct(unit, sums_ + unit * slices * part_.max_groups, slices,
              corrections_ + unit * part_.max_groups);
    }
    ForEachTask(parallel, part_.units() * slices, elements, [&](int64_t task) {
      const int64_t unit = task / slices;
      WriteGradient(unit, task - unit * slices, corrections_ + unit * part_.max_groups);
    });
  }

  GradientSums<Scalar> OwnedSums(int64_t set, int64_t inner, int64_t slice) const {
    if (part_.sets == 0) return GradientSums<Scalar>();
    int64_t begin, end;
    walk_.ParamRange(inner, slice, part_.slices_own_params, &begin, &end);
    return GradientSums<Scalar>(sets_ + set * set_bytes_, problem_.num_params(), begin,
                                end);
  }

  void Correct(int64_t unit, const SumPair* sums, int64_t slices,
               GroupCorrection<Scalar>* corrections) const {
    const auto* dmean = static_cast<const Scalar*>(buffers_.dmean);
    const auto* drstd = static_cast<const Scalar*>(buffers_.drstd);
    const int64_t first = walk_.FirstGroup(unit);
    for (int64_t group = 0; group < walk_.NumGroups(unit); ++group) {
      SumPair total;
      for (int64_t slice = 0; slice < slices; ++slice) {
        total.plain += sums[slice * part_.max_groups + group].plain;
        total.xhat += sums[slice * part_.max_groups + group].xhat;
      }
      const int64_t at = first + group;
      corrections[group] = CorrectionOf<Scalar>(
          total, problem_.group_size(), problem_.centred, in_.rstd[at],
          dmean == nullptr ? 0 : dmean[at], drstd == nullptr ? 0 : drstd[at]);
    }
  }

  void WriteGradient(int64_t unit, int64_t slice,
                     const GroupCorrection<Scalar>* corrections) const {
    walk_.WriteGradient(unit, slice, in_, corrections,
                        static_cast<Storage*>(buffers_.dx));
  }

  const NormProblem& problem_;
  const Partition& part_;
  const WalkType walk_;
  const BackwardBuffers& buffers_;
  Gradients<Storage, Scalar> in_;
  SumPair* sums_ = nullptr;
  char* sets_ = nullptr;
  int64_t set_bytes_ = 0;
  GroupCorrection<Scalar>* corrections_ = nullptr;
};
