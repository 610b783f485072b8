// The walk of rows.h where positions differ: a mask hides runs of them, or gamma and
// beta are each element's own.
//
// Included only by kernels.cc, inside its per-instruction-set namespace.
#pragma once

template <class Data>
class PositionRows : public Rows<Data> {
 public:
  typedef Rows<Data> Alike;
  typedef typename Data::Vec Vec;
  typedef typename Data::Storage Storage;
  typedef typename Vec::Scalar Scalar;
  static constexpr int64_t kMostTogether = 1;

  template <class Buffers>
  PositionRows(const NormProblem& problem, const Partition& part,
               const Buffers& buffers)
      : Alike(problem, part), mask_(problem, buffers.mask), params_(problem, buffers) {}

  FUSEDNORM_INLINE int64_t UnitsTogether(int64_t) const { return kMostTogether; }

  FUSEDNORM_INLINE double PerElement(int64_t unit) const {
    return mask_.PerElement(unit);
  }

  // Of those that the statistics are of; null if there is none.
  const Storage* FirstElement(int64_t unit, const Storage* x) const {
    const int64_t position = mask_.First(unit);
    if (position < 0) return nullptr;
    const int64_t p = position / problem_.mask_q;
    return Alike::FirstElement(unit, x) + p * Alike::stride_ +
           (position - p * problem_.mask_q);
  }
  FUSEDNORM_INLINE Scalar Origin(const Storage* first, int64_t) const {
    return first == nullptr ? 0 : LoadOne<Data>(first);
  }

  void StatisticsOfUnits(int64_t unit, int64_t /*count: 1*/, const Storage* x,
                         Moments (&of_unit)[kMostTogether]) const {
    Statistics(unit, 0, x, of_unit);
  }

  void Statistics(int64_t unit, int64_t slice, const Storage* x,
                  Moments* of_group) const {
    RunMoments<Data> moments(problem_.centred,
                             problem_.centred ? Origin(FirstElement(unit, x), 0) : 0);
    ForEachMaskRun(unit, slice,
                   [&](int64_t offset, int64_t, int64_t count, bool hidden) {
                     if (!hidden) moments.Add(x + offset, count);
                   });
    *of_group = moments.Total();
  }

  void Normalize(int64_t unit, int64_t slice, const Storage* x, const Scalar* mean,
                 const Scalar* rstd, const Params<Scalar>& params, Storage* y,
                 Writes writes) const {
    if (!params_.exist()) {
      return Alike::Normalize(unit, slice, x, mean, rstd, params, y, writes);
    }
    Converted memory;
    Alike::ForEachRun(unit, slice, [&](int64_t begin, int64_t, int64_t run) {
      ForEachPart(begin, run, [&](int64_t offset, int64_t count) {
        segments_.apply(x + offset, y + offset, count,
                        OwnTransformAt(unit, offset, count, mean, rstd, &memory),
                        writes);
      });
    });
  }

  void ReduceGradientsOfUnits(int64_t unit, int64_t /*step*/, int64_t /*count: 1*/,
                              const Gradients<Storage, Scalar>& in,
                              const KeptDz<Scalar>& kept,
                              GradientSums<Scalar>* params_sum,
                              SumPair (&sums)[kMostTogether]) const {
    ReduceGradients(unit, 0, in, kept, params_sum, sums);
  }

  // All positions have a share of the sums.
  void ReduceGradients(int64_t unit, int64_t slice,
                       const Gradients<Storage, Scalar>& in, KeptDz<Scalar> kept,
                       GradientSums<Scalar>* params_sum, SumPair* sums) const {
    if (!params_.exist()) {
      return Alike::ReduceGradients(unit, slice, in, kept, params_sum, sums);
    }
    Converted memory;
    PairSums<Vec> of_group;
    Alike::ForEachRun(unit, slice, [&](int64_t begin, int64_t, int64_t run) {
      ForEachPart(begin, run, [&](int64_t offset, int64_t count) {
        Scalar dz[kPart] = {}, dz_xhat[kPart] = {};
        segments_.reduce_along(
            in.dy + offset, in.x + offset, kept.Next(offset, count), count,
            OwnTransformAt(unit, offset, count, in.mean, in.rstd, &memory), &of_group,
            dz, dz_xhat);
        params_.StoreGradients(offset, count, dz, dz_xhat);
      });
    });
    *sums = of_group.Total();
  }

  // The mask cuts runs where the pass before, if it kept dz, did not: what was kept is
  // in the order of the elements all the same.
  void WriteGradient(int64_t unit, int64_t slice, const Gradients<Storage, Scalar>& in,
                     KeptDz<Scalar> kept, const GroupCorrection<Scalar>* of_group,
                     Storage* dx, Writes writes) const {
    typedef Operand<Vec> Op;
    const Correction<Vec, Same> counted = {Same<Vec>(of_group->plain),
                                           Same<Vec>(of_group->xhat),
                                           Op::Same(of_group->offset)};
    const Correction<Vec, Same> none = {Same<Vec>(0), Same<Vec>(0), Op::Same(0)};
    const auto write = [&](int64_t offset, int64_t count, bool hidden,
                           const Transform<Vec, Same>& by) {
      segments_.WriteGradient(in, kept.Next(offset, count), offset, dx, count, by,
                              hidden ? none : counted, 0, writes);
    };
    Converted memory;
    ForEachMaskRun(
        unit, slice, [&](int64_t begin, int64_t inside, int64_t run, bool hidden) {
          if (params_.exist()) {
            ForEachPart(begin, run, [&](int64_t offset, int64_t count) {
              write(offset, count, hidden,
                    OwnTransformAt(unit, offset, count, in.mean, in.rstd, &memory));
            });
          } else {
            const int64_t param = Alike::FirstParam(unit) + inside / problem_.q;
            write(begin, run, hidden,
                  Alike::TransformAt(unit, param, in.mean, in.rstd, in.params));
          }
        });
  }

 private:
  using Alike::problem_;
  using Alike::segments_;

  // Elements whose parameters and gradients find room in the first cache, beside the
  // elements themselves.
  static constexpr int64_t kPart = 512;
  struct Converted {
    Scalar gamma[kPart], beta[kPart];
  };

  template <class Function>
  static FUSEDNORM_INLINE void ForEachPart(int64_t offset, int64_t count,
                                           Function&& function) {
    for (int64_t done = 0; done < count; done += kPart) {
      function(offset + done, Min(kPart, count - done));
    }
  }

  // function(offset in the tensor, position in the chunk, count, whether the mask hides
  // it) over contiguous runs, of one channel where the mask differs along Q.
  template <class Function>
  FUSEDNORM_INLINE void ForEachMaskRun(int64_t unit, int64_t slice,
                                       Function&& function) const {
    const int64_t columns = problem_.mask_q;
    const int64_t base = Alike::Base(unit);
    Alike::ForEachRun(unit, slice, [&](int64_t offset, int64_t inside, int64_t count) {
      if (!mask_.exists()) return function(offset, inside, count, false);
      const uint8_t* const of_chunk =
          mask_.Of(unit) + (offset - base) / Alike::stride_ * columns;
      if (columns == 1) return function(offset, inside, count, of_chunk[0] == 0);
      while (count > 0) {
        const int64_t column = inside % columns;
        const uint8_t* const mask = of_chunk + column;
        const int64_t run = PositionMask::RunLength(mask, Min(columns - column, count));
        function(offset, inside, run, mask[0] == 0);
        offset += run;
        inside += run;
        count -= run;
      }
    });
  }

  FUSEDNORM_INLINE Transform<Vec, Same> OwnTransformAt(int64_t unit, int64_t offset,
                                                       int64_t count,
                                                       const Scalar* mean,
                                                       const Scalar* rstd,
                                                       Converted* memory) const {
    return {Same<Vec>(mean == nullptr ? 0 : mean[unit]), Same<Vec>(rstd[unit]),
            params_.Gamma(offset, count, memory->gamma),
            params_.Beta(offset, count, memory->beta)};
  }

  const PositionMask mask_;
  const PositionParams<Data> params_;
};
