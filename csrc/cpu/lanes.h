// The walk across lines that hold many groups. Vectors run over neighbouring lanes, and
// sums go down the rows. There are two cases. If groups are interleaved over P, a lane
// is an element of a channel; parameters vary along the line, and a group has several
// lanes. If Q is not reduced, a lane is a column; parameters vary down the rows, and
// each group has one lane.
//
// Included only by kernels.cc, inside its per-instruction-set namespace.
#pragma once

template <class Data>
class Lanes {
 public:
  typedef typename Data::Vec Vec;
  typedef typename Data::Storage Storage;
  typedef typename Vec::Scalar Scalar;
  static constexpr int64_t kMaxGroups = kMaxLanes;
  static constexpr int64_t kMostTogether = 1;

  Lanes(const NormProblem& problem, const Partition& part)
      : problem_(problem),
        segments_(Segments<Data, Along>::For(problem.activation)),
        part_(part),
        lanes_per_group_(problem.reduces_q ? problem.k * problem.q : 1),
        unfolded_rows_(problem.reduces_q ? problem.p : problem.k),
        per_element_(1.0 / problem.group_size()) {}

  FUSEDNORM_INLINE int64_t FirstGroup(int64_t unit) const {
    const int64_t first = unit / part_.lane_blocks * part_.line + BlockBegin(unit);
    return first / lanes_per_group_;
  }
  FUSEDNORM_INLINE int64_t NumGroups(int64_t unit) const {
    return Min(part_.line - BlockBegin(unit), part_.lanes) / lanes_per_group_;
  }

  FUSEDNORM_INLINE int64_t UnitsTogether(int64_t) const { return 1; }

  void Prologue(int64_t unit, int64_t slice, const Storage* x, const Storage* residual,
                Storage* sum) const {
    ForEachRow(unit, slice, [&](int64_t offset, int64_t, int64_t lanes) {
      AddResidual<Data>(x + offset, residual + offset, sum + offset, lanes);
    });
  }

  FUSEDNORM_INLINE double PerElement(int64_t) const { return per_element_; }

  FUSEDNORM_INLINE const Storage* FirstElement(int64_t unit, const Storage* x) const {
    return x + Base(unit);
  }
  // The origin of a group, where `first` is the unit's first element.
  FUSEDNORM_INLINE Scalar Origin(const Storage* first, int64_t group) const {
    return LoadOne<Data>(first + group * lanes_per_group_);
  }

  void Statistics(int64_t unit, int64_t slice, const Storage* x,
                  Moments* of_groups) const {
    Scalar of_group[kMaxGroups], origin[kMaxLanes];
    const Storage* const from = FirstElement(unit, x);
    for (int64_t group = 0; group < NumGroups(unit); ++group) {
      of_group[group] = problem_.centred ? Origin(from, group) : 0;
    }
    Spread(unit, [&](int64_t group) { return of_group[group]; }, origin);
    LaneMoments<Data> moments(problem_.centred, origin, part_.lanes);
    // If lines are folded, the last row may be shorter than the others.
    const int64_t elements = unfolded_rows_ * part_.line;
    const int64_t begin = SliceBegin(slice), end = SliceBegin(slice + 1);
    const int64_t whole_end = Folded() ? Min(end, elements / part_.stride) : end;
    if (begin < whole_end) {
      moments.Add(from + begin * part_.stride, whole_end - begin, part_.stride,
                  LanesOfRow(unit));
    }
    if (whole_end < end) {
      moments.Flush();
      moments.Add(from + whole_end * part_.stride, 1, part_.stride,
                  elements - whole_end * part_.stride);
    }
    JoinLanes(unit, &moments, of_groups);
  }

  void Normalize(int64_t unit, int64_t slice, const Storage* x, const Scalar* mean,
                 const Scalar* rstd, const Params<Scalar>& params, Storage* y,
                 Writes writes) const {
    const LaneTransform by(*this, unit, mean, rstd, params);
    ForEachRow(unit, slice, [&](int64_t offset, int64_t row, int64_t lanes) {
      segments_.WriteResult(x + offset, y + offset, lanes, by.AtRow(row), writes);
    });
  }

  void ReduceGradients(int64_t unit, int64_t slice,
                       const Gradients<Storage, Scalar>& in, KeptDz<Scalar> kept,
                       GradientSums<Scalar>* params_sum, SumPair* sums) const {
    const LaneTransform by(*this, unit, in.mean, in.rstd, in.params);
    LaneSums<Scalar, 2> total(part_.lanes);
    ForEachRow(unit, slice, [&](int64_t offset, int64_t row, int64_t lanes) {
      if (problem_.reduces_q) {
        segments_.ReduceAlong(in.dy + offset, in.x + offset, kept.Next(offset, lanes),
                              lanes, by.AtRow(row), nullptr, total.staged[0],
                              total.staged[1]);
      } else {
        PairSums<Vec> of_row;
        segments_.ReduceSame(in.dy + offset, in.x + offset, kept.Next(offset, lanes),
                             lanes, by.AtRow(row), &of_row, total.staged[0],
                             total.staged[1]);
        params_sum->AddPair(row, of_row.Total());
      }
      total.EndRow();
    });
    JoinSums(unit, in.params, &total, params_sum, sums);
  }

  void WriteGradient(int64_t unit, int64_t slice, const Gradients<Storage, Scalar>& in,
                     KeptDz<Scalar> kept, const FirstOrderShares<Scalar>* of_groups,
                     Storage* dx, Writes writes) const {
    const LaneTransform by(*this, unit, in.mean, in.rstd, in.params);
    const LaneShares values(*this, unit, in.has_dmean, of_groups);
    const SharesAlong<Vec, Along> shares = values.OfLanes();
    ForEachRow(unit, slice, [&](int64_t offset, int64_t row, int64_t lanes) {
      segments_.WriteGradient(in, kept.Next(offset, lanes), offset, dx, lanes,
                              by.AtRow(row), shares, 0, writes);
    });
  }

  void ReduceSecondOrder(int64_t unit, int64_t slice,
                         const SecondGradients<Storage, Scalar>& in,
                         SecondOrderSums<double>* sums) const {
    const SecondOrderLanes by(*this, unit, in);
    LaneSums<Scalar, kSecondOrderSums> total(part_.lanes);
    const auto add = problem_.reduces_q ? AddRun<Data, false, kMaxLanes>
                                        : AddRun<Data, true, kMaxLanes>;
    ForEachRow(unit, slice, [&](int64_t offset, int64_t row, int64_t lanes) {
      add(in.dy + offset, in.x + offset, in.ddx + offset, lanes, by.AtRow(row),
          total.staged);
      total.EndRow();
    });
    total.Flush();
    for (int64_t group = 0; group < NumGroups(unit); ++group) sums[group] = {};
    GroupAdder<Scalar, kSecondOrderSums> adder(NumGroups(unit));
    ForEachLane(unit, [&](int64_t lane, int64_t group, int64_t param) {
      SecondOrderSums<double> of_lane;
      for (int s = 0; s < kSecondOrderSums; ++s) of_lane.at[s] = total.sums[s][lane];
      if (problem_.reduces_q) {  // otherwise they are in the sums already
        of_lane = Weighted<double>(of_lane, in.params.GammaAt(param),
                                   in.params.DdgammaAt(param));
      }
      for (int s = 0; s < kSecondOrderSums; ++s) {
        adder.Add(s, group, of_lane.at[s], &sums[group].at[s]);
      }
    });
  }

  // Also adds to d_gamma.
  void WriteSecondOrder(int64_t unit, int64_t slice,
                        const SecondGradients<Storage, Scalar>& in,
                        const SecondOrderShares<Scalar>* of_groups, Storage* d_dy,
                        Storage* d_x, ParamSums<Scalar, 1>* d_gamma) const {
    const SecondOrderLanes by(*this, unit, in);
    SecondOrderShares<Scalar[kMaxLanes]> lane;
    ForEachLane(unit, [&](int64_t i, int64_t group, int64_t) {
      lane.mean_u[i] = of_groups[group].mean_u;
      lane.mean_u_xhat[i] = of_groups[group].mean_u_xhat;
      lane.of_u[i] = of_groups[group].of_u;
      lane.of_a[i] = of_groups[group].of_a;
      lane.plain[i] = of_groups[group].plain;
      lane.with_xhat[i] = of_groups[group].with_xhat;
    });
    typedef Operand<Vec> Op;
    const RunShares<Vec> shares = {Op::Along(lane.mean_u), Op::Along(lane.mean_u_xhat),
                                   Op::Along(lane.of_u),   Op::Along(lane.of_a),
                                   Op::Along(lane.plain),  Op::Along(lane.with_xhat)};
    LaneSums<Scalar, 1> total(part_.lanes);
    const auto write =
        problem_.reduces_q ? WriteRun<Data, true> : WriteRun<Data, false>;
    ForEachRow(unit, slice, [&](int64_t offset, int64_t row, int64_t lanes) {
      const double of_row =
          write(in.dy + offset, in.x + offset, in.ddx + offset, d_dy + offset,
                d_x + offset, lanes, by.AtRow(row), shares, total.staged[0]);
      if (!problem_.reduces_q) d_gamma->Add(0, row, of_row);
      total.EndRow();
    });
    total.Flush();
    if (!problem_.reduces_q) return;
    ForEachLane(unit, [&](int64_t i, int64_t, int64_t param) {
      d_gamma->Add(0, param, total.sums[0][i]);
    });
  }

  // The number of a unit's elements before a slice.
  FUSEDNORM_INLINE int64_t ElementsBefore(int64_t slice) const {
    return SliceBegin(slice) * part_.lanes;
  }

  FUSEDNORM_INLINE void ParamRange(int64_t inner, int64_t slice, bool slice_only,
                                   int64_t* begin, int64_t* end) const {
    if (slice_only) {
      *begin = SliceBegin(slice);
      *end = SliceBegin(slice + 1);
    } else if (part_.inner == 1) {
      *begin = 0;
      *end = problem_.num_params();
    } else {
      *begin = BlockBegin(inner) / problem_.q;
      *end = *begin + NumGroups(inner) * problem_.k;
    }
  }

 protected:
  // From the moments of lanes to those of their groups. The common mean of a group
  // comes first, so that no lane needs a division.
  void JoinLanes(int64_t unit, LaneMoments<Data>* moments, Moments* of_groups) const {
    moments->Flush();
    const int64_t groups = NumGroups(unit);
    for (int64_t group = 0; group < groups; ++group) of_groups[group] = {};
    GroupAdder<Scalar, 2> adder(groups);
    ForEachLane(unit, [&](int64_t lane, int64_t group, int64_t) {
      const Moments of_lane = moments->At(lane);
      of_groups[group].count += of_lane.count;
      adder.Add(0, group, of_lane.count * of_lane.mean, &of_groups[group].mean);
    });
    for (int64_t group = 0; group < groups; ++group) {
      Moments& of_group = of_groups[group];
      if (of_group.count > 0) of_group.mean /= of_group.count;
    }
    ForEachLane(unit, [&](int64_t lane, int64_t group, int64_t) {
      const Moments of_lane = moments->At(lane);
      const double delta = of_lane.mean - of_groups[group].mean;
      adder.Add(1, group, of_lane.squares + of_lane.count * delta * delta,
                &of_groups[group].squares);
    });
  }

  // From the backward pass's sums of lanes to those of their groups. Where gamma varies
  // by lane, it is multiplied in here; elsewhere it is in the sums already.
  void JoinSums(int64_t unit, const Params<Scalar>& params, LaneSums<Scalar, 2>* total,
                GradientSums<Scalar>* params_sum, SumPair* sums) const {
    total->Flush();
    for (int64_t group = 0; group < NumGroups(unit); ++group) sums[group] = SumPair();
    GroupAdder<Scalar, 2> adder(NumGroups(unit));
    ForEachLane(unit, [&](int64_t lane, int64_t group, int64_t param) {
      const SumPair lane_sums = {total->sums[0][lane], total->sums[1][lane]};
      double gamma = 1;
      if (problem_.reduces_q) {
        params_sum->AddPair(param, lane_sums);
        gamma = params.GammaAt(param);
      }
      const SumPair weighted = Weighted(lane_sums, gamma);
      adder.Add(0, group, weighted.plain, &sums[group].plain);
      adder.Add(1, group, weighted.with_xhat, &sums[group].with_xhat);
    });
  }

  // What varies along the lanes, written out once for each unit.
  struct LaneTransform {
    LaneTransform(const Lanes& walk, int64_t unit, const Scalar* all_mean,
                  const Scalar* all_rstd, const Params<Scalar>& params)
        : params(params), along_lanes(walk.problem_.reduces_q) {
      walk.SpreadStatistics(unit, all_mean, mean);
      walk.SpreadStatistics(unit, all_rstd, rstd);
      if (along_lanes) {
        walk.SpreadParams(unit, [&](int64_t i) { return params.GammaAt(i); }, gamma);
        walk.SpreadParams(unit, [&](int64_t i) { return params.BetaAt(i); }, beta);
      }
    }
    FUSEDNORM_INLINE Transform<Vec, Along> AtRow(int64_t row) const {
      typedef Operand<Vec> Op;
      return {Along<Vec>(mean), Along<Vec>(rstd),
              along_lanes ? Op::Along(gamma) : Op::Same(params.GammaAt(row)),
              along_lanes ? Op::Along(beta) : Op::Same(params.BetaAt(row))};
    }

    const Params<Scalar> params;
    const bool along_lanes;
    Scalar mean[kMaxLanes], rstd[kMaxLanes], gamma[kMaxLanes], beta[kMaxLanes];
  };

  struct LaneShares {
    LaneShares(const Lanes& walk, int64_t unit, bool has_offset,
               const FirstOrderShares<Scalar>* of_groups)
        : has_offset(has_offset) {
      walk.Spread(unit, [&](int64_t group) { return of_groups[group].plain; }, plain);
      walk.Spread(
          unit, [&](int64_t group) { return of_groups[group].with_xhat; }, with_xhat);
      if (!has_offset) return;
      walk.Spread(unit, [&](int64_t group) { return of_groups[group].offset; }, offset);
    }
    FUSEDNORM_INLINE SharesAlong<Vec, Along> OfLanes() const {
      typedef Operand<Vec> Op;
      return {Along<Vec>(plain), Along<Vec>(with_xhat),
              has_offset ? Op::Along(offset) : Op::Same(0)};
    }

    const bool has_offset;
    Scalar plain[kMaxLanes], with_xhat[kMaxLanes], offset[kMaxLanes];
  };

  // LaneTransform for the second order.
  struct SecondOrderLanes {
    SecondOrderLanes(const Lanes& walk, int64_t unit,
                     const SecondGradients<Storage, Scalar>& in)
        : params(in.params), along_lanes(walk.problem_.reduces_q) {
      walk.SpreadStatistics(unit, in.mean, mean);
      walk.SpreadStatistics(unit, in.rstd, rstd);
      if (along_lanes) {
        walk.SpreadParams(unit, [&](int64_t i) { return params.GammaAt(i); }, gamma);
        walk.SpreadParams(
            unit, [&](int64_t i) { return params.DdgammaAt(i); }, ddgamma);
        walk.SpreadParams(unit, [&](int64_t i) { return params.DdbetaAt(i); }, ddbeta);
      }
    }
    FUSEDNORM_INLINE SecondOrderTransform<Vec> AtRow(int64_t row) const {
      typedef Operand<Vec> Op;
      return {Op::Along(mean), Op::Along(rstd),
              along_lanes ? Op::Along(gamma) : Op::Same(params.GammaAt(row)),
              along_lanes ? Op::Along(ddgamma) : Op::Same(params.DdgammaAt(row)),
              along_lanes ? Op::Along(ddbeta) : Op::Same(params.DdbetaAt(row))};
    }

    const SecondOrderParams<Scalar> params;
    const bool along_lanes;
    Scalar mean[kMaxLanes], rstd[kMaxLanes];
    Scalar gamma[kMaxLanes], ddgamma[kMaxLanes], ddbeta[kMaxLanes];
  };

  // Whether a row holds several lines.
  FUSEDNORM_INLINE bool Folded() const { return part_.stride != part_.line; }

  // The place of the unit's first lane in its line.
  FUSEDNORM_INLINE int64_t BlockBegin(int64_t unit) const {
    return unit % part_.lane_blocks * part_.lanes;
  }
  FUSEDNORM_INLINE int64_t Base(int64_t unit) const {
    return unit / part_.lane_blocks * unfolded_rows_ * part_.line + BlockBegin(unit);
  }
  FUSEDNORM_INLINE int64_t SliceBegin(int64_t slice) const {
    return part_.rows * slice / part_.slices;
  }

  // Calls function(offset in the tensor, row, lanes).
  template <class Function>
  FUSEDNORM_INLINE void ForEachRow(int64_t unit, int64_t slice,
                                   Function&& function) const {
    const int64_t base = Base(unit);
    const int64_t lanes = LanesOfRow(unit);
    const int64_t end = SliceBegin(slice + 1);
    for (int64_t row = SliceBegin(slice); row < end; ++row) {
      const int64_t left = unfolded_rows_ * part_.line - row * part_.stride;
      function(base + row * part_.stride, row, Folded() ? Min(lanes, left) : lanes);
    }
  }

  FUSEDNORM_INLINE int64_t LanesOfRow(int64_t unit) const {
    return Folded() ? part_.lanes : Min(part_.line - BlockBegin(unit), part_.lanes);
  }

  // Sets lanes[i] to the value of the lane's group.
  template <class ValueOf>
  FUSEDNORM_INLINE void Spread(int64_t unit, ValueOf&& value_of, Scalar* lanes) const {
    const int64_t groups = NumGroups(unit);
    if (lanes_per_group_ == 1) {
      for (int64_t group = 0; group < groups; ++group) lanes[group] = value_of(group);
    } else {
      Scalar* to = lanes;
      for (int64_t group = 0; group < groups; ++group) {
        const Scalar value = value_of(group);
        for (int64_t i = 0; i < lanes_per_group_; ++i) *to++ = value;
      }
    }
    Repeat(groups * lanes_per_group_, lanes);
  }

  // Sets lanes[i] to the statistic of the lane's group. `statistics` has those of all
  // groups; null: zero.
  FUSEDNORM_INLINE void SpreadStatistics(int64_t unit, const Scalar* statistics,
                                         Scalar* lanes) const {
    const int64_t first = FirstGroup(unit);
    const auto value_of = [&](int64_t group) {
      return statistics == nullptr ? 0 : statistics[first + group];
    };
    Spread(unit, value_of, lanes);
  }

  // Sets lanes[i] to the value of the lane's parameter. Only where it varies by lane.
  template <class ValueOf>
  FUSEDNORM_INLINE void SpreadParams(int64_t unit, ValueOf&& value_of,
                                     Scalar* lanes) const {
    const int64_t channels = NumGroups(unit) * problem_.k;
    const int64_t params = problem_.num_params();
    int64_t param = FirstGroup(unit) % problem_.g * problem_.k;
    Scalar* to = lanes;
    for (int64_t left = channels; left > 0;) {
      // As far as the parameters go before they begin again.
      const int64_t count = Min(left, params - param);
      if (problem_.q == 1) {
        for (int64_t i = 0; i < count; ++i) to[i] = value_of(param + i);
        to += count;
      } else {
        for (int64_t i = 0; i < count; ++i) {
          const Scalar value = value_of(param + i);
          for (int64_t j = 0; j < problem_.q; ++j) *to++ = value;
        }
      }
      left -= count;
      param = 0;
    }
    Repeat(channels * problem_.q, lanes);
  }

  // Fills in the lines of a row after the first, which are like it.
  FUSEDNORM_INLINE void Repeat(int64_t line, Scalar* lanes) const {
    if (!Folded()) return;
    for (int64_t i = line; i < part_.lanes; ++i) lanes[i] = lanes[i - line];
  }

  // Calls function(lane, group in the unit, parameter). The parameter is only correct
  // where it varies by lane.
  template <class Function>
  FUSEDNORM_INLINE void ForEachLane(int64_t unit, Function&& function) const {
    const int64_t groups = NumGroups(unit);
    const int64_t copies = Folded() ? part_.lanes / part_.line : 1;
    const int64_t channels = problem_.reduces_q ? problem_.k : 1;
    const int64_t repeats = problem_.reduces_q ? problem_.q : 1;
    int64_t lane = 0;
    for (int64_t copy = 0; copy < copies; ++copy) {
      int64_t g = FirstGroup(unit) % problem_.g;
      for (int64_t group = 0; group < groups; ++group) {
        const int64_t param = g * problem_.k;
        if (repeats == 1) {
          for (int64_t k = 0; k < channels; ++k) function(lane++, group, param + k);
        } else {
          for (int64_t i = 0; i < lanes_per_group_; ++i) {
            function(lane++, group, param + i / repeats);
          }
        }
        if (++g == problem_.g) g = 0;
      }
    }
  }

  const NormProblem& problem_;
  const Segments<Data, Along> segments_;
  const Partition& part_;
  const int64_t lanes_per_group_;
  const int64_t unfolded_rows_;
  const double per_element_;
};
