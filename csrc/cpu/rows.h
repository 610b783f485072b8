// The walk along groups whose elements are contiguous in x[N, P, G, K, Q]. Vectors run
// along K * Q, and a unit is one group.
//
// Included only by kernels.cc, inside its per-instruction-set namespace.
#pragma once

template <class Data>
class Rows {
 public:
  typedef typename Data::Vec Vec;
  typedef typename Data::Storage Storage;
  typedef typename Vec::Scalar Scalar;
  static constexpr int64_t kMaxGroups = 1;
  // Several short rows go through each phase together. While the lanes of one row are
  // added up, one addition after the other, the next row is already being read.
  static constexpr int64_t kMostTogether = 8;

  Rows(const NormProblem& problem, const Partition& part)
      : problem_(problem),
        segments_(Segments<Data, Same>::For(problem.activation)),
        slices_(part.slices),
        chunk_(problem.k * problem.q),
        stride_(problem.g * chunk_),
        size_(problem.p * chunk_),
        per_element_(1.0 / size_) {
    constexpr int64_t kBytes = 4096;  // read by a phase; more only fills the cache
    const int64_t bytes = size_ * static_cast<int64_t>(sizeof(Storage));
    for (int64_t tensors = 1; tensors <= 2 && IsBlock(); ++tensors) {
      int64_t& units = together_[tensors - 1];
      while (units < kMostTogether && 2 * units * tensors * bytes <= kBytes) units *= 2;
    }
    if (problem.q == 1) {
      const int64_t rows_at_once = Min(4, UnitsTogether(2));
      if (rows_at_once > 1) {
        short_rows_ = ShortRowsReducer<Data>(problem.activation, rows_at_once);
      }
    }
  }

  FUSEDNORM_INLINE int64_t FirstGroup(int64_t unit) const { return unit; }
  FUSEDNORM_INLINE int64_t NumGroups(int64_t) const { return 1; }
  // For phases that read `tensors` tensors.
  FUSEDNORM_INLINE int64_t UnitsTogether(int64_t tensors) const {
    return together_[tensors - 1];
  }

  void Prologue(int64_t unit, int64_t slice, const Storage* x, const Storage* residual,
                Storage* sum) const {
    ForEachRun(unit, slice, [&](int64_t offset, int64_t, int64_t count) {
      AddResidual<Data>(x + offset, residual + offset, sum + offset, count);
    });
  }

  FUSEDNORM_INLINE double PerElement(int64_t) const { return per_element_; }

  // Any element of the group would do as the origin, but all slices must take the same.
  FUSEDNORM_INLINE const Storage* FirstElement(int64_t unit, const Storage* x) const {
    return x + Base(unit);
  }
  FUSEDNORM_INLINE Scalar Origin(const Storage* first, int64_t) const {
    return LoadOne<Data>(first);
  }

  // The statistics of `count` whole units that are taken together, from `first` on.
  void StatisticsOfUnits(int64_t first, int64_t count, const Storage* x,
                         Moments (&of_units)[kMostTogether]) const {
    if (!IsBlock()) {
      for (int64_t i = 0; i < count; ++i) Statistics(first + i, 0, x, &of_units[i]);
      return;
    }
    Scalar mean[kMostTogether] = {};
    if (problem_.centred) {
      for (int64_t i = 0; i < count; ++i) {
        mean[i] = MeanOfBlock<Data>(x + Base(first + i), size_, per_element_);
      }
    }
    for (int64_t i = 0; i < count; ++i) {
      of_units[i] = MomentsOfBlock<Data>(x + Base(first + i), size_, per_element_,
                                         mean[i], problem_.centred);
    }
  }

  void Statistics(int64_t unit, int64_t slice, const Storage* x,
                  Moments* of_groups) const {
    RunMoments<Data> moments(problem_.centred,
                             problem_.centred ? Origin(FirstElement(unit, x), 0) : 0);
    ForEachRun(unit, slice, [&](int64_t offset, int64_t, int64_t count) {
      moments.Add(x + offset, count);
    });
    of_groups[0] = moments.Total();
  }

  void Normalize(int64_t unit, int64_t slice, const Storage* x, const Scalar* mean,
                 const Scalar* rstd, const Params<Scalar>& params, Storage* y,
                 Writes writes) const {
    ForEachParamRun(unit, slice, [&](int64_t offset, int64_t param, int64_t count) {
      segments_.WriteResult(x + offset, y + offset, count,
                            TransformAt(unit, param, mean, rstd, params), writes);
    });
  }

  // Adds to params_sum and sets *sums to the group's sums.
  void ReduceGradients(int64_t unit, int64_t slice,
                       const Gradients<Storage, Scalar>& in, KeptDz<Scalar> kept,
                       GradientSums<Scalar>* params_sum, SumPair* sums) const {
    PairSums<Vec> of_group;
    if (problem_.q == 1) {
      ForEachParamRun(unit, slice, [&](int64_t offset, int64_t param, int64_t count) {
        segments_.ReduceAlong(
            in.dy + offset, in.x + offset, kept.Next(offset, count), count,
            TransformAt(unit, param, in.mean, in.rstd, in.params), &of_group,
            params_sum->Staged(GradientSums<Scalar>::kBeta, param),
            params_sum->Staged(GradientSums<Scalar>::kGamma, param));
        params_sum->EndRows(1);
      });
      sums[0] = of_group.Total();
    } else {
      sums[0] = SumPair();
      ForEachParamRun(unit, slice, [&](int64_t offset, int64_t param, int64_t count) {
        PairSums<Vec> of_run;
        segments_.ReduceSame(in.dy + offset, in.x + offset, kept.Next(offset, count),
                             count,
                             TransformAt(unit, param, in.mean, in.rstd, in.params),
                             &of_run, nullptr, nullptr);
        const SumPair of_param = of_run.Total();
        const SumPair weighted = Weighted<double>(of_param, in.params.GammaAt(param));
        sums[0].plain += weighted.plain;
        sums[0].with_xhat += weighted.with_xhat;
        params_sum->AddPair(param, of_param);
      });
    }
  }

  // The same for `count` whole units that are taken together, `step` apart.
  void ReduceGradientsOfUnits(int64_t first, int64_t step, int64_t count,
                              const Gradients<Storage, Scalar>& in,
                              const KeptDz<Scalar>& kept,
                              GradientSums<Scalar>* params_sum,
                              SumPair (&sums)[kMostTogether]) const {
    int64_t done = 0;
    if (const int64_t rows = short_rows_.rows(); rows > 0) {
      for (; done + rows <= count; done += rows) {
        const int64_t unit = first + done * step;
        const int64_t param = FirstParam(unit);
        const int64_t offset = Base(unit);
        const Transform<Vec, Same> by =
            TransformAt(unit, param, in.mean, in.rstd, in.params);
        const int64_t distance = step * size_;
        short_rows_.Run({in.dy + offset, distance, in.x + offset, distance, size_,
                         in.mean == nullptr ? nullptr : in.mean + unit, in.rstd + unit,
                         step, by.gamma, by.beta},
                        kept.OfUnit(done).Next(offset, size_), kept.Distance(distance),
                        sums + done,
                        params_sum->Staged(GradientSums<Scalar>::kBeta, param),
                        params_sum->Staged(GradientSums<Scalar>::kGamma, param));
        params_sum->EndRows(rows);
      }
    }
    for (; done < count; ++done) {
      ReduceGradients(first + done * step, 0, in, kept.OfUnit(done), params_sum,
                      sums + done);
    }
  }

  void WriteGradient(int64_t unit, int64_t slice, const Gradients<Storage, Scalar>& in,
                     KeptDz<Scalar> kept, const FirstOrderShares<Scalar>* of_group,
                     Storage* dx, Writes writes) const {
    const SharesAlong<Vec, Same> shares = SharesOfRun<Vec>(*of_group);
    ForEachParamRun(unit, slice, [&](int64_t offset, int64_t param, int64_t count) {
      segments_.WriteGradient(in, kept.Next(offset, count), offset, dx, count,
                              TransformAt(unit, param, in.mean, in.rstd, in.params),
                              shares, FetchedAhead(count), writes);
    });
  }

  void ReduceSecondOrder(int64_t unit, int64_t slice,
                         const SecondGradients<Storage, Scalar>& in,
                         SecondOrderSums<double>* sums) const {
    sums[0] = {};
    // Where parameters do not vary along the run, or are absent (1 and 0), they are
    // multiplied into its sums.
    const bool weighted =
        problem_.q == 1 && (in.params.gamma != nullptr || in.params.ddgamma != nullptr);
    const auto sum_run = weighted ? SumRun<Data, true> : SumRun<Data, false>;
    ForEachParamRun(unit, slice, [&](int64_t offset, int64_t param, int64_t count) {
      SecondOrderSums<double> run =
          sum_run(in.dy + offset, in.x + offset, in.ddx + offset, count,
                  SecondOrderAt(unit, param, in));
      if (!weighted) {
        run =
            Weighted<double>(run, in.params.GammaAt(param), in.params.DdgammaAt(param));
      }
      for (int s = 0; s < kSecondOrderSums; ++s) sums[0].at[s] += run.at[s];
    });
  }

  // Also adds to d_gamma.
  void WriteSecondOrder(int64_t unit, int64_t slice,
                        const SecondGradients<Storage, Scalar>& in,
                        const SecondOrderShares<Scalar>* of_group, Storage* d_dy,
                        Storage* d_x, ParamSums<Scalar, 1>* d_gamma) const {
    typedef Operand<Vec> Op;
    const RunShares<Vec> shares = {
        Op::Same(of_group->mean_u), Op::Same(of_group->mean_u_xhat),
        Op::Same(of_group->of_u),   Op::Same(of_group->of_a),
        Op::Same(of_group->plain),  Op::Same(of_group->with_xhat)};
    const bool along = problem_.q == 1;
    const auto write = along ? WriteRun<Data, true> : WriteRun<Data, false>;
    ForEachParamRun(unit, slice, [&](int64_t offset, int64_t param, int64_t count) {
      const double of_run =
          write(in.dy + offset, in.x + offset, in.ddx + offset, d_dy + offset,
                d_x + offset, count, SecondOrderAt(unit, param, in), shares,
                along ? d_gamma->Staged(0, param) : nullptr);
      if (along) {
        d_gamma->EndRows(1);
      } else {
        d_gamma->Add(0, param, of_run);
      }
    });
  }

  // The number of a unit's elements before a slice.
  FUSEDNORM_INLINE int64_t ElementsBefore(int64_t slice) const {
    return SliceBegin(slice);
  }

  // The range of parameters to whose sums a slice of the units with this `inner` adds.
  FUSEDNORM_INLINE void ParamRange(int64_t inner, int64_t slice, bool slice_only,
                                   int64_t* begin, int64_t* end) const {
    const int64_t first = inner * problem_.k;
    *begin = first + (slice_only ? SliceBegin(slice) : 0);
    *end = first + (slice_only ? SliceBegin(slice + 1) : problem_.k);
  }

 protected:
  // Whether the group is one run that is at most one block of sums.
  FUSEDNORM_INLINE bool IsBlock() const {
    return size_ == chunk_ && size_ <= kVectorsPerBlock * Vec::kLanes;
  }

  FUSEDNORM_INLINE int64_t Base(int64_t unit) const {
    if (size_ == chunk_) return unit * size_;
    const int64_t n = unit / problem_.g;
    return n * problem_.p * stride_ + (unit - n * problem_.g) * chunk_;
  }

  // How far ahead the second pass of the gradient fetches; 0: not at all. The pass
  // reads from the cache, and memory is idle meanwhile. What comes next is often the
  // next rows. The processor itself fetches ahead no more than a page. Fetching ahead
  // of single rows of float32 was measured to be slower: it asks too much of the
  // memory.
  FUSEDNORM_INLINE int64_t FetchedAhead(int64_t run) const {
    constexpr int64_t kLongestRun = 4096;
    if (run > kLongestRun) return 0;
    if (UnitsTogether(2) > 1) return UnitsTogether(2) * stride_;
    return sizeof(Storage) < 4 ? run : 0;
  }

  FUSEDNORM_INLINE int64_t FirstParam(int64_t unit) const {
    return problem_.g == 1 ? 0 : unit % problem_.g * problem_.k;
  }

  FUSEDNORM_INLINE int64_t SliceBegin(int64_t slice) const {
    if (slice == slices_) return size_;
    return size_ / slices_ * slice / Vec::kLanes * Vec::kLanes;
  }

  // Calls function(offset in the tensor, position in the chunk, count) for contiguous
  // runs.
  template <class Function>
  FUSEDNORM_INLINE void ForEachRun(int64_t unit, int64_t slice,
                                   Function&& function) const {
    const int64_t base = Base(unit);
    if (slices_ == 1 && size_ == chunk_) return function(base, 0, size_);
    const int64_t end = SliceBegin(slice + 1);
    for (int64_t position = SliceBegin(slice); position < end;) {
      const int64_t p = position / chunk_;
      const int64_t inside = position - p * chunk_;
      const int64_t count = Min(chunk_ - inside, end - position);
      function(base + p * stride_ + inside, inside, count);
      position += count;
    }
  }

  // Calls function(offset in the tensor, first parameter, count) for runs along which
  // the parameters are an array (Q = 1) or constant.
  template <class Function>
  FUSEDNORM_INLINE void ForEachParamRun(int64_t unit, int64_t slice,
                                        Function&& function) const {
    const int64_t first = FirstParam(unit);
    ForEachRun(unit, slice, [&](int64_t offset, int64_t inside, int64_t count) {
      if (problem_.q == 1) return function(offset, first + inside, count);
      while (count > 0) {
        const int64_t k = inside / problem_.q;
        const int64_t run = Min((k + 1) * problem_.q - inside, count);
        function(offset, first + k, run);
        offset += run;
        inside += run;
        count -= run;
      }
    });
  }

  FUSEDNORM_INLINE Transform<Vec, Same> TransformAt(
      int64_t unit, int64_t param, const Scalar* mean, const Scalar* rstd,
      const Params<Scalar>& params) const {
    typedef Operand<Vec> Op;
    Transform<Vec, Same> by = {Same<Vec>(mean == nullptr ? 0 : mean[unit]),
                               Same<Vec>(rstd[unit]), Op::Same(params.GammaAt(param)),
                               Op::Same(params.BetaAt(param))};
    if (problem_.q == 1 && params.gamma != nullptr)
      by.gamma = Op::Along(params.gamma + param);
    if (problem_.q == 1 && params.beta != nullptr)
      by.beta = Op::Along(params.beta + param);
    return by;
  }

  FUSEDNORM_INLINE SecondOrderTransform<Vec> SecondOrderAt(
      int64_t unit, int64_t param, const SecondGradients<Storage, Scalar>& in) const {
    typedef Operand<Vec> Op;
    const auto of_run = [&](const Scalar* params, Scalar same) {
      return problem_.q == 1 && params != nullptr ? Op::Along(params + param)
                                                  : Op::Same(same);
    };
    return {Op::Same(in.mean == nullptr ? 0 : in.mean[unit]), Op::Same(in.rstd[unit]),
            of_run(in.params.gamma, in.params.GammaAt(param)),
            of_run(in.params.ddgamma, in.params.DdgammaAt(param)),
            of_run(in.params.ddbeta, in.params.DdbetaAt(param))};
  }

  const NormProblem& problem_;
  const Segments<Data, Same> segments_;
  const int64_t slices_;
  const int64_t chunk_;   // contiguous elements of a group
  const int64_t stride_;  // from one chunk of a group to the next
  const int64_t size_;    // elements of a group
  const double per_element_;
  int64_t together_[2] = {1, 1};
  // For backward, where gamma varies along the row.
  ShortRowsReducer<Data> short_rows_;
};
