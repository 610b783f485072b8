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
      : Alike(problem, part),
        mixed_segments_(Segments<Data, Along>::For(problem.activation)),
        mask_(problem, buffers.mask),
        params_(problem, buffers) {}

  FUSEDNORM_INLINE int64_t UnitsTogether(int64_t) const { return kMostTogether; }

  FUSEDNORM_INLINE double PerElement(int64_t unit) const {
    return mask_.PerElement(unit);
  }

  // The first element that the statistics are of; null if there is none.
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

  void Statistics(int64_t unit, int64_t slice, const Storage* x,
                  Moments* of_group) const {
    RunMoments<Data> moments(problem_.centred,
                             problem_.centred ? Origin(FirstElement(unit, x), 0) : 0);
    ForEachMaskRun(unit, slice, [&](const MaskRun& run) {
      if (run.mixed != nullptr) {
        Storage counted[kPart];
        const int64_t count =
            PositionMask::Pack(run.mixed, x + run.offset, run.count, counted);
        moments.Add(counted, count);
      } else if (!run.hidden) {
        moments.Add(x + run.offset, run.count);
      }
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
        segments_.WriteResult(x + offset, y + offset, count,
                              OwnTransformAt(unit, offset, count, mean, rstd, &memory),
                              writes);
      });
    });
  }

  // Hidden positions are part of these sums, too.
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
        segments_.ReduceAlong(
            in.dy + offset, in.x + offset, kept.Next(offset, count), count,
            OwnTransformAt(unit, offset, count, in.mean, in.rstd, &memory), &of_group,
            dz, dz_xhat);
        params_.StoreGradients(offset, count, dz, dz_xhat);
      });
    });
    *sums = of_group.Total();
  }

  // Here the mask cuts runs that the pass before, which may have kept dz, did not cut.
  // That does no harm, because dz is kept in the order of the elements.
  void WriteGradient(int64_t unit, int64_t slice, const Gradients<Storage, Scalar>& in,
                     KeptDz<Scalar> kept, const FirstOrderShares<Scalar>* of_group,
                     Storage* dx, Writes writes) const {
    const FirstOrderShares<Scalar> none = {};
    const auto write = [&](const MaskRun& run, const Transform<Vec, Same>& by) {
      Scalar* const kept_dz = kept.Next(run.offset, run.count);
      if (run.mixed != nullptr) {
        const MixedRun mixed(run, by, *of_group);
        mixed_segments_.WriteGradient(in, kept_dz, run.offset, dx, run.count,
                                      mixed.by(), mixed.shares(), 0, writes);
        return;
      }
      const FirstOrderShares<Scalar>& of_run = run.hidden ? none : *of_group;
      segments_.WriteGradient(in, kept_dz, run.offset, dx, run.count, by,
                              SharesOfRun<Vec>(of_run), 0, writes);
    };
    Converted memory;
    ForEachMaskRun(unit, slice, [&](const MaskRun& run) {
      if (params_.exist()) {
        ForEachPart(run.offset, run.count, [&](int64_t offset, int64_t count) {
          MaskRun part = run;
          part.offset = offset;
          part.count = count;
          write(part, OwnTransformAt(unit, offset, count, in.mean, in.rstd, &memory));
        });
      } else {
        const int64_t param = Alike::FirstParam(unit) + run.inside / problem_.q;
        write(run, Alike::TransformAt(unit, param, in.mean, in.rstd, in.params));
      }
    });
  }

 private:
  using Alike::problem_;
  using Alike::segments_;

  // So many elements fit the first cache, together with their parameters and gradients.
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

  // A contiguous run. If the mask differs along Q, it is within one channel.
  struct MaskRun {
    int64_t offset;  // in the tensor
    int64_t inside;  // position in the chunk
    int64_t count;
    bool hidden;           // the mask hides all of it
    const uint8_t* mixed;  // the mask, if it hides some of at most kPart elements
  };

  template <class Function>
  FUSEDNORM_INLINE void ForEachMaskRun(int64_t unit, int64_t slice,
                                       Function&& function) const {
    constexpr int64_t kShort = 16;  // shorter runs cost more than their elements
    const int64_t columns = problem_.mask_q;
    const int64_t base = Alike::Base(unit);
    Alike::ForEachRun(unit, slice, [&](int64_t offset, int64_t inside, int64_t count) {
      if (!mask_.exists())
        return function(MaskRun{offset, inside, count, false, nullptr});
      const uint8_t* const of_chunk =
          mask_.Of(unit) + (offset - base) / Alike::stride_ * columns;
      if (columns == 1) {
        return function(MaskRun{offset, inside, count, of_chunk[0] == 0, nullptr});
      }
      while (count > 0) {
        const int64_t column = inside % columns;
        const uint8_t* const mask = of_chunk + column;
        const int64_t most = Min(columns - column, count);
        int64_t run = PositionMask::RunLength(mask, most);
        const bool mixed = run < Min(most, kShort);
        if (mixed) run = Min(most, kPart);
        function(MaskRun{offset, inside, run, !mixed && mask[0] == 0,
                         mixed ? mask : nullptr});
        offset += run;
        inside += run;
        count -= run;
      }
    });
  }

  // A run of which the mask hides some elements, which then have no shares: everything
  // is written out element by element, as the functions for lanes take it.
  class MixedRun {
   public:
    MixedRun(const MaskRun& run, const Transform<Vec, Same>& by,
             const FirstOrderShares<Scalar>& of_group)
        : gamma_(by.gamma), beta_(by.beta) {
      for (int64_t i = 0; i < run.count; ++i) {
        const bool hidden = run.mixed[i] == 0;
        mean_[i] = by.mean.value;
        rstd_[i] = by.rstd.value;
        plain_[i] = hidden ? 0 : of_group.plain;
        with_xhat_[i] = hidden ? 0 : of_group.with_xhat;
        offset_[i] = hidden ? 0 : of_group.offset;
      }
    }
    FUSEDNORM_INLINE Transform<Vec, Along> by() const {
      return {Along<Vec>(mean_), Along<Vec>(rstd_), gamma_, beta_};
    }
    FUSEDNORM_INLINE SharesAlong<Vec, Along> shares() const {
      return {Along<Vec>(plain_), Along<Vec>(with_xhat_), Operand<Vec>::Along(offset_)};
    }

   private:
    const Operand<Vec> gamma_, beta_;
    Scalar mean_[kPart], rstd_[kPart];
    Scalar plain_[kPart], with_xhat_[kPart], offset_[kPart];
  };

  FUSEDNORM_INLINE Transform<Vec, Same> OwnTransformAt(int64_t unit, int64_t offset,
                                                       int64_t count,
                                                       const Scalar* mean,
                                                       const Scalar* rstd,
                                                       Converted* memory) const {
    return {Same<Vec>(mean == nullptr ? 0 : mean[unit]), Same<Vec>(rstd[unit]),
            params_.Gamma(offset, count, memory->gamma),
            params_.Beta(offset, count, memory->beta)};
  }

  const Segments<Data, Along> mixed_segments_;
  const PositionMask mask_;
  const PositionParams<Data> params_;
};
