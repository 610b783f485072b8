// The second order over either walk. One pass over dy, x and ddx computes each group's
// seven sums. A second pass computes d_dy, d_x and the group's part of d_gamma; if the
// unit fits the cache, it reads from there.
//
// Included only by kernels.cc, inside its per-instruction-set namespace.
#pragma once

template <class Data, class WalkType>
class SecondOrder {
 public:
  typedef typename Data::Storage Storage;
  typedef typename Data::Vec::Scalar Scalar;
  typedef SecondOrderSums<double> Sums;
  typedef SecondOrderShares<Scalar> Shares;

  SecondOrder(const NormProblem& problem, const Partition& part, const WalkType& walk,
              const SecondOrderBuffers& buffers, Workspace workspace)
      : problem_(problem), part_(part), walk_(walk), buffers_(buffers) {
    if (part.slices > 1) {
      sums_ = workspace.Take<Sums>(part.units() * part.slices * part.max_groups);
    }
    set_bytes_ = SetBytes(problem, 1);
    sets_ = workspace.Take<char>(part.sets * set_bytes_);
    if (part.slices > 1) {
      shares_ = workspace.Take<Shares>(part.units() * part.max_groups);
    }
    in_ = {static_cast<const Storage*>(buffers.dy),
           static_cast<const Storage*>(buffers.x),
           static_cast<const Storage*>(buffers.ddx),
           static_cast<const Scalar*>(buffers.mean),
           static_cast<const Scalar*>(buffers.rstd),
           {PrepareGamma<Data>(problem, buffers.gamma, &workspace),
            PrepareParam<Data>(problem, buffers.ddgamma, 0, &workspace),
            PrepareParam<Data>(problem, buffers.ddbeta, 0, &workspace)}};
  }

  void Run(const ParallelFor& parallel) const {
    if (part_.slices == 1) {
      RunWholeUnits(parallel);
    } else {
      RunSlices(parallel);
    }
    SetSums<Data>(problem_, sets_, set_bytes_, part_.sets)
        .Run(parallel, {buffers_.d_gamma});
  }

 private:
  typedef ParamSums<Scalar, 1> GammaSums;

  void RunWholeUnits(const ParallelFor& parallel) const {
    const int64_t elements = part_.unit_elements * part_.outer / part_.blocks;
    ForEachTask(parallel, part_.blocks * part_.inner, elements, [&](int64_t task) {
      const int64_t block = task / part_.inner;
      const int64_t inner = task - block * part_.inner;
      GammaSums d_gamma = OwnedSums(block, inner, 0);
      const int64_t end = part_.outer * (block + 1) / part_.blocks;
      for (int64_t outer = part_.outer * block / part_.blocks; outer < end; ++outer) {
        const int64_t unit = outer * part_.inner + inner;
        Sums sums[WalkType::kMaxGroups];
        Shares shares[WalkType::kMaxGroups];
        walk_.ReduceSecondOrder(unit, 0, in_, sums);
        Share(unit, sums, 1, shares);
        Write(unit, 0, shares, &d_gamma);
      }
      d_gamma.Flush();
    });
  }

  void RunSlices(const ParallelFor& parallel) const {
    const int64_t slices = part_.slices;
    const int64_t elements = part_.unit_elements / slices;
    ForEachTask(parallel, part_.units() * slices, elements, [&](int64_t task) {
      const int64_t unit = task / slices;
      walk_.ReduceSecondOrder(unit, task - unit * slices, in_,
                              sums_ + task * part_.max_groups);
    });
    for (int64_t unit = 0; unit < part_.units(); ++unit) {
      Share(unit, sums_ + unit * slices * part_.max_groups, slices,
            shares_ + unit * part_.max_groups);
    }
    const auto write = [&](int64_t unit, int64_t slice, GammaSums* d_gamma) {
      Write(unit, slice, shares_ + unit * part_.max_groups, d_gamma);
    };
    if (part_.slices_own_params) {
      ForEachTask(parallel, part_.inner * slices, elements * part_.outer,
                  [&](int64_t task) {
                    const int64_t inner = task / slices;
                    const int64_t slice = task - inner * slices;
                    GammaSums d_gamma = OwnedSums(0, inner, slice);
                    for (int64_t outer = 0; outer < part_.outer; ++outer) {
                      write(outer * part_.inner + inner, slice, &d_gamma);
                    }
                    d_gamma.Flush();
                  });
      return;
    }
    ForEachTask(parallel, part_.units() * slices, elements, [&](int64_t task) {
      const int64_t unit = task / slices;
      const int64_t slice = task - unit * slices;
      const int64_t outer = unit / part_.inner;
      GammaSums d_gamma =
          OwnedSums(outer * slices + slice, unit - outer * part_.inner, slice);
      write(unit, slice, &d_gamma);
      d_gamma.Flush();
    });
  }

  GammaSums OwnedSums(int64_t set, int64_t inner, int64_t slice) const {
    if (part_.sets == 0) return GammaSums();
    int64_t begin, end;
    walk_.ParamRange(inner, slice, part_.slices_own_params, &begin, &end);
    return GammaSums(sets_ + set * set_bytes_, problem_.num_params(), begin, end);
  }

  // Computes the shares of the unit's groups. Also writes d_dmean and d_drstd.
  void Share(int64_t unit, const Sums* sums, int64_t slices, Shares* shares) const {
    const auto* all_drstd = static_cast<const Scalar*>(buffers_.drstd);
    auto* d_dmean = static_cast<Scalar*>(buffers_.d_dmean);
    auto* d_drstd = static_cast<Scalar*>(buffers_.d_drstd);
    const int64_t first = walk_.FirstGroup(unit);
    for (int64_t group = 0; group < walk_.NumGroups(unit); ++group) {
      Sums total = {};
      for (int64_t slice = 0; slice < slices; ++slice) {
        for (int s = 0; s < kSecondOrderSums; ++s) {
          total.at[s] += sums[slice * part_.max_groups + group].at[s];
        }
      }
      const int64_t at = first + group;
      const double rstd = in_.rstd[at];
      const double drstd = all_drstd == nullptr ? 0 : all_drstd[at];
      const SecondOrderShares<double> exact = SharesOf<double>(
          total, 1.0 / problem_.group_size(), problem_.centred, rstd, drstd);
      shares[group] = {
          static_cast<Scalar>(exact.mean_u), static_cast<Scalar>(exact.mean_u_xhat),
          static_cast<Scalar>(exact.of_u),   static_cast<Scalar>(exact.of_a),
          static_cast<Scalar>(exact.plain),  static_cast<Scalar>(exact.with_xhat)};
      if (d_dmean != nullptr) d_dmean[at] = shares[group].mean_u;
      if (d_drstd != nullptr) {
        d_drstd[at] = static_cast<Scalar>(-rstd * rstd * exact.mean_u_xhat);
      }
    }
  }

  void Write(int64_t unit, int64_t slice, const Shares* shares,
             GammaSums* d_gamma) const {
    walk_.WriteSecondOrder(unit, slice, in_, shares,
                           static_cast<Storage*>(buffers_.d_dy),
                           static_cast<Storage*>(buffers_.d_x), d_gamma);
  }

  const NormProblem& problem_;
  const Partition& part_;
  const WalkType walk_;
  const SecondOrderBuffers& buffers_;
  SecondGradients<Storage, Scalar> in_;
  Sums* sums_ = nullptr;
  char* sets_ = nullptr;
  int64_t set_bytes_ = 0;
  Shares* shares_ = nullptr;
};
