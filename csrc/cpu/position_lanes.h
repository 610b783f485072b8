// The walk of lanes.h where positions differ: a mask hides rows, or each element has
// its own gamma and beta. With a mask, all groups of a unit are of one sample, and no
// lines are folded.
//
// Included only by kernels.cc, inside its per-instruction-set namespace.
#pragma once

template <class Data>
class PositionLanes : public Lanes<Data> {
 public:
  typedef Lanes<Data> Alike;
  typedef typename Data::Vec Vec;
  typedef typename Data::Storage Storage;
  typedef typename Vec::Scalar Scalar;
  using Alike::FirstGroup;

  template <class Buffers>
  PositionLanes(const NormProblem& problem, const Partition& part,
                const Buffers& buffers)
      : Alike(problem, part), mask_(problem, buffers.mask), params_(problem, buffers) {}

  FUSEDNORM_INLINE double PerElement(int64_t unit) const {
    return mask_.PerElement(FirstGroup(unit));
  }

  // The first element that the statistics are of; null if there is none.
  const Storage* FirstElement(int64_t unit, const Storage* x) const {
    const int64_t row = mask_.First(FirstGroup(unit));
    if (row < 0) return nullptr;
    return Alike::FirstElement(unit, x) + row * part_.stride;
  }
  FUSEDNORM_INLINE Scalar Origin(const Storage* first, int64_t group) const {
    return first == nullptr ? 0 : Alike::Origin(first, group);
  }

  void Statistics(int64_t unit, int64_t slice, const Storage* x,
                  Moments* of_groups) const {
    if (!mask_.exists()) return Alike::Statistics(unit, slice, x, of_groups);
    Scalar origin[kMaxLanes];
    const Storage* const first = FirstElement(unit, x);
    Alike::Spread(unit, [&](int64_t group) { return Origin(first, group); }, origin);
    LaneMoments<Data> moments(problem_.centred, origin, part_.lanes);
    const uint8_t* const mask = mask_.Of(FirstGroup(unit));
    const int64_t end = Alike::SliceBegin(slice + 1);
    for (int64_t row = Alike::SliceBegin(slice); row < end;) {
      const int64_t run = PositionMask::RunLength(mask + row, end - row);
      if (mask[row] != 0) {
        moments.Add(Alike::FirstElement(unit, x) + row * part_.stride, run,
                    part_.stride, Alike::LanesOfRow(unit));
      }
      row += run;
    }
    Alike::JoinLanes(unit, &moments, of_groups);
  }

  void Normalize(int64_t unit, int64_t slice, const Storage* x, const Scalar* mean,
                 const Scalar* rstd, const Params<Scalar>& params, Storage* y,
                 Writes writes) const {
    if (!params_.exist()) {
      return Alike::Normalize(unit, slice, x, mean, rstd, params, y, writes);
    }
    OwnTransform by(*this, unit, mean, rstd);
    Alike::ForEachRow(unit, slice, [&](int64_t offset, int64_t, int64_t lanes) {
      segments_.WriteResult(x + offset, y + offset, lanes, by.At(offset, lanes),
                            writes);
    });
  }

  // Hidden positions are part of these sums, too.
  void ReduceGradients(int64_t unit, int64_t slice,
                       const Gradients<Storage, Scalar>& in, KeptDz<Scalar> kept,
                       GradientSums<Scalar>* params_sum, SumPair* sums) const {
    if (!params_.exist()) {
      return Alike::ReduceGradients(unit, slice, in, kept, params_sum, sums);
    }
    OwnTransform by(*this, unit, in.mean, in.rstd);
    LaneSums<Scalar, 2> total(part_.lanes);
    Scalar dz[kMaxLanes], dz_xhat[kMaxLanes];
    Alike::ForEachRow(unit, slice, [&](int64_t offset, int64_t, int64_t lanes) {
      for (int64_t lane = 0; lane < lanes; ++lane) dz[lane] = dz_xhat[lane] = 0;
      const Transform<Vec, Along> of_row = by.At(offset, lanes);
      segments_.ReduceAlong(in.dy + offset, in.x + offset, kept.Next(offset, lanes),
                            lanes, of_row, nullptr, dz, dz_xhat);
      params_.StoreGradients(offset, lanes, dz, dz_xhat);
      ForEachVector<Vec>(lanes, [&](int64_t i, auto width) FUSEDNORM_INLINE_LAMBDA {
        const typename Vec::V gamma = of_row.gamma.At(i, width);
        const FirstOrderSums<typename Vec::V> of_params = {
            Load<Scalars>(dz + i, width), Load<Scalars>(dz_xhat + i, width)};
        const FirstOrderSums<typename Vec::V> terms = Weighted(of_params, gamma);
        AddTo<Vec>(total.staged[0] + i, terms.plain, width);
        AddTo<Vec>(total.staged[1] + i, terms.with_xhat, width);
      });
      total.EndRow();
    });
    // gamma is in the sums already, since in.params has no gamma here.
    Alike::JoinSums(unit, in.params, &total, params_sum, sums);
  }

  void WriteGradient(int64_t unit, int64_t slice, const Gradients<Storage, Scalar>& in,
                     KeptDz<Scalar> kept, const FirstOrderShares<Scalar>* of_groups,
                     Storage* dx, Writes writes) const {
    if (params_.exist()) {
      OwnTransform by(*this, unit, in.mean, in.rstd);
      WriteRows(
          unit, slice, in, kept, of_groups, dx, writes,
          [&](int64_t offset, int64_t, int64_t lanes) { return by.At(offset, lanes); });
    } else {
      const LaneTransform by(*this, unit, in.mean, in.rstd, in.params);
      WriteRows(unit, slice, in, kept, of_groups, dx, writes,
                [&](int64_t, int64_t row, int64_t) { return by.AtRow(row); });
    }
  }

 private:
  typedef ScalarData<Vec> Scalars;
  typedef typename Alike::LaneTransform LaneTransform;
  typedef typename Alike::LaneShares LaneShares;
  using Alike::part_;
  using Alike::problem_;
  using Alike::segments_;

  // Like LaneTransform, but each element has its own parameters.
  struct OwnTransform {
    OwnTransform(const PositionLanes& walk, int64_t unit, const Scalar* all_mean,
                 const Scalar* all_rstd)
        : params(walk.params_) {
      walk.SpreadStatistics(unit, all_mean, mean);
      walk.SpreadStatistics(unit, all_rstd, rstd);
    }
    // The result is valid until the next call.
    FUSEDNORM_INLINE Transform<Vec, Along> At(int64_t offset, int64_t lanes) {
      return {Along<Vec>(mean), Along<Vec>(rstd), params.Gamma(offset, lanes, gamma),
              params.Beta(offset, lanes, beta)};
    }

    const PositionParams<Data>& params;
    Scalar mean[kMaxLanes], rstd[kMaxLanes], gamma[kMaxLanes], beta[kMaxLanes];
  };

  template <class TransformAt>
  void WriteRows(int64_t unit, int64_t slice, const Gradients<Storage, Scalar>& in,
                 KeptDz<Scalar> kept, const FirstOrderShares<Scalar>* of_groups,
                 Storage* dx, Writes writes, TransformAt&& transform_at) const {
    const LaneShares of_lanes(*this, unit, in.has_dmean, of_groups);
    const SharesAlong<Vec, Along> counted = of_lanes.OfLanes();
    const Scalar zeros[kMaxLanes] = {};
    const SharesAlong<Vec, Along> none = {Along<Vec>(zeros), Along<Vec>(zeros),
                                          Operand<Vec>::Same(0)};
    const uint8_t* const mask = mask_.exists() ? mask_.Of(FirstGroup(unit)) : nullptr;
    Alike::ForEachRow(unit, slice, [&](int64_t offset, int64_t row, int64_t lanes) {
      const bool hidden = mask != nullptr && mask[row] == 0;
      segments_.WriteGradient(in, kept.Next(offset, lanes), offset, dx, lanes,
                              transform_at(offset, row, lanes), hidden ? none : counted,
                              0, writes);
    });
  }

  const PositionMask mask_;
  const PositionParams<Data> params_;
};
