// The backward pass over either walk. One pass over x and dy computes each group's two
// sums and its part of dgamma and dbeta. A second pass computes dx; if the unit fits
// the cache, it reads from there.
//
// Included only by kernels.cc, inside its per-instruction-set namespace.
#pragma once

template <class Data, class WalkType>
class Backward {
 public:
  typedef typename Data::Storage Storage;
  typedef typename Data::Vec Vec;
  typedef typename Vec::Scalar Scalar;

  Backward(const NormProblem& problem, const Partition& part, const WalkType& walk,
           const BackwardBuffers& buffers, Workspace workspace)
      : problem_(problem), part_(part), walk_(walk), buffers_(buffers) {
    if (part.slices > 1) {
      sums_ = workspace.Take<SumPair>(part.wave * part.slices * part.max_groups);
    }
    set_bytes_ = SetBytes(problem, GradientSums<Scalar>::kCount);
    sets_ = workspace.Take<char>(part.sets * set_bytes_);
    if (part.slices > 1) {
      shares_ = workspace.Take<FirstOrderShares<Scalar>>(part.wave * part.max_groups);
    }
    in_ = {static_cast<const Storage*>(buffers.dy),
           static_cast<const Storage*>(buffers.x),
           static_cast<const Storage*>(buffers.dsum),
           static_cast<const Scalar*>(buffers.mean),
           static_cast<const Scalar*>(buffers.rstd),
           {PrepareGamma<Data>(problem, buffers.gamma, &workspace),
            PrepareParam<Data>(problem, buffers.beta, 0, &workspace)},
           buffers.dmean != nullptr};
    if (PacksDz() && part.slices > 1) {
      packed_dz_ = workspace.Take<Scalar>(part.wave * part.unit_elements);
    }
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
  typedef KeptDz<Scalar> Kept;

  // dz can wait for the second pass in dx, unless dx overwrites x or dsum. Otherwise it
  // is packed in memory of its own.
  static constexpr bool kDxHoldsDz = std::is_same<Storage, Scalar>::value;
  bool KeepsDzInDx() const {
    return kDxHoldsDz && part_.keeps_dz && buffers_.dx != buffers_.x &&
           buffers_.dx != buffers_.dsum;
  }
  bool PacksDz() const { return !kDxHoldsDz && part_.keeps_dz; }
  Kept KeptIn(Scalar* packed) const {
    if (KeepsDzInDx()) return Kept::In(static_cast<Scalar*>(buffers_.dx));
    return packed == nullptr ? Kept() : Kept::Packed(packed, part_.unit_elements);
  }

  void RunWholeUnits(const ParallelFor& parallel) const {
    const int64_t elements = part_.unit_elements * part_.outer / part_.blocks;
    ForEachTask(parallel, part_.blocks * part_.inner, elements, [&](int64_t task) {
      const int64_t block = task / part_.inner;
      const int64_t inner = task - block * part_.inner;
      GradientSums<Scalar> params_sum = OwnedSums(block, inner, 0);
      const Scratch<Scalar> packed(
          PacksDz() ? walk_.UnitsTogether(2) * part_.unit_elements : 0);
      const int64_t end = part_.outer * (block + 1) / part_.blocks;
      for (int64_t outer = part_.outer * block / part_.blocks; outer < end;) {
        const int64_t count = Min(walk_.UnitsTogether(2), end - outer);
        RunUnits(outer, count, inner, KeptIn(packed.data()), &params_sum);
        outer += count;
      }
      params_sum.Flush();
    });
  }

  void RunUnits(int64_t outer, int64_t count, int64_t inner, const Kept& kept,
                GradientSums<Scalar>* params_sum) const {
    constexpr int64_t kMost = WalkType::kMostTogether;
    constexpr int64_t kGroups = WalkType::kMaxGroups;
    SumPair sums[kMost * kGroups];
    FirstOrderShares<Scalar> shares[kMost * kGroups];
    const int64_t first = outer * part_.inner + inner;
    if constexpr (WalkType::kMostTogether == 1) {
      walk_.ReduceGradients(first, 0, in_, kept, params_sum, sums);
    } else {
      walk_.ReduceGradientsOfUnits(first, part_.inner, count, in_, kept, params_sum,
                                   sums);
    }
    for (int64_t i = 0; i < count; ++i) {
      Share(first + i * part_.inner, sums + i * kGroups, 1, shares + i * kGroups);
    }
    for (int64_t i = 0; i < count; ++i) {
      WriteGradient(first + i * part_.inner, 0, kept.OfUnit(i), shares + i * kGroups);
    }
  }

  void RunSlices(const ParallelFor& parallel) const {
    for (int64_t first = 0; first < part_.units(); first += part_.wave) {
      RunWave(parallel, first, Min(part_.wave, part_.units() - first));
    }
  }

  void RunWave(const ParallelFor& parallel, int64_t first, int64_t units) const {
    const int64_t slices = part_.slices;
    const int64_t elements = part_.unit_elements / slices;
    const auto kept = [&](int64_t unit, int64_t slice) {
      if (packed_dz_ == nullptr) return KeptIn(nullptr);
      return KeptIn(packed_dz_ + (unit - first) * part_.unit_elements +
                    walk_.ElementsBefore(slice));
    };
    const auto reduce = [&](int64_t unit, int64_t slice,
                            GradientSums<Scalar>* params_sum) {
      walk_.ReduceGradients(
          unit, slice, in_, kept(unit, slice), params_sum,
          sums_ + ((unit - first) * slices + slice) * part_.max_groups);
    };
    if (part_.slices_own_params) {
      // There is only one wave.
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
      ForEachTask(parallel, units * slices, elements, [&](int64_t task) {
        const int64_t unit = first + task / slices;
        const int64_t slice = task % slices;
        const int64_t outer = unit / part_.inner;
        GradientSums<Scalar> params_sum =
            OwnedSums(outer * slices + slice, unit - outer * part_.inner, slice);
        reduce(unit, slice, &params_sum);
        params_sum.Flush();
      });
    }
    for (int64_t i = 0; i < units; ++i) {
      Share(first + i, sums_ + i * slices * part_.max_groups, slices,
            shares_ + i * part_.max_groups);
    }
    // Backwards, because most of what was read last is still in the cache.
    ForEachTask(parallel, units * slices, elements, [&](int64_t task) {
      const int64_t back = units * slices - 1 - task;
      const int64_t i = back / slices;
      const int64_t slice = back % slices;
      WriteGradient(first + i, slice, kept(first + i, slice),
                    shares_ + i * part_.max_groups);
    });
  }

  GradientSums<Scalar> OwnedSums(int64_t set, int64_t inner, int64_t slice) const {
    if (part_.sets == 0) return GradientSums<Scalar>();
    int64_t begin, end;
    walk_.ParamRange(inner, slice, part_.slices_own_params, &begin, &end);
    return GradientSums<Scalar>(sets_ + set * set_bytes_, problem_.num_params(), begin,
                                end);
  }

  void Share(int64_t unit, const SumPair* sums, int64_t slices,
             FirstOrderShares<Scalar>* shares) const {
    const auto* dmean = static_cast<const Scalar*>(buffers_.dmean);
    const auto* drstd = static_cast<const Scalar*>(buffers_.drstd);
    const int64_t first = walk_.FirstGroup(unit);
    const double per_element = walk_.PerElement(unit);
    for (int64_t group = 0; group < walk_.NumGroups(unit); ++group) {
      SumPair total = {};
      for (int64_t slice = 0; slice < slices; ++slice) {
        total.plain += sums[slice * part_.max_groups + group].plain;
        total.with_xhat += sums[slice * part_.max_groups + group].with_xhat;
      }
      const int64_t at = first + group;
      shares[group] = SharesOfGroup<Scalar>(
          total, per_element, problem_.centred, in_.rstd[at],
          dmean == nullptr ? 0 : dmean[at], drstd == nullptr ? 0 : drstd[at]);
    }
  }

  void WriteGradient(int64_t unit, int64_t slice, const Kept& kept,
                     const FirstOrderShares<Scalar>* shares) const {
    walk_.WriteGradient(
        unit, slice, in_, kept, shares, static_cast<Storage*>(buffers_.dx),
        part_.streams && !KeepsDzInDx() ? Writes::kStreamed : Writes::kCached);
    if (part_.streams) EndStream();
  }

  const NormProblem& problem_;
  const Partition& part_;
  const WalkType walk_;
  const BackwardBuffers& buffers_;
  Gradients<Storage, Scalar> in_;
  SumPair* sums_ = nullptr;
  char* sets_ = nullptr;
  int64_t set_bytes_ = 0;
  FirstOrderShares<Scalar>* shares_ = nullptr;
  Scalar* packed_dz_ = nullptr;  // of the units of a wave
};
