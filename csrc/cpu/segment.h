// The arithmetic of every norm on a contiguous run of elements. The walks decide which
// runs there are, and what varies along a run.
//
// Included only by kernels.cc, inside its per-instruction-set namespace.
#pragma once

// A sum takes so many vectors in the compute type before it goes to double. Its
// rounding error is therefore that of 64 additions, however long the sum is.
constexpr int64_t kVectorsPerBlock = 64;

// A value that is the same along a run, or an array with a value for each element of
// the run. The same value is kept as one number, since functions pass on a number
// faster than a vector.
template <class Vec>
class Operand {
 public:
  typedef typename Vec::Scalar Scalar;
  static FUSEDNORM_INLINE Operand Same(Scalar value) { return Operand(nullptr, value); }
  static FUSEDNORM_INLINE Operand Along(const Scalar* values) {
    return Operand(values, 0);
  }
  template <class Width>
  FUSEDNORM_INLINE typename Vec::V At(int64_t i, Width width) const {
    if (values_ == nullptr) return Vec::Splat(same_);
    return LoadScalars(values_ + i, width);
  }
  // The operand of the rest of the run.
  FUSEDNORM_INLINE Operand From(int64_t i) const {
    return values_ == nullptr ? *this : Along(values_ + i);
  }

 private:
  FUSEDNORM_INLINE Operand(const Scalar* values, Scalar same)
      : values_(values), same_(same) {}
  template <class Width>
  static FUSEDNORM_INLINE typename Vec::V LoadScalars(const Scalar* from, Width width);

  const Scalar* values_;
  Scalar same_;
};

// The two kinds of Operand, for callers that know which they have.
template <class Vec>
struct Same {
  explicit FUSEDNORM_INLINE Same(typename Vec::Scalar value) : value(value) {}
  template <class Width>
  FUSEDNORM_INLINE typename Vec::V At(int64_t, Width) const {
    return Vec::Splat(value);
  }
  FUSEDNORM_INLINE Same From(int64_t) const { return *this; }
  typename Vec::Scalar value;
};
template <class Vec>
struct Along {
  explicit FUSEDNORM_INLINE Along(const typename Vec::Scalar* values)
      : values(values) {}
  template <class Width>
  FUSEDNORM_INLINE typename Vec::V At(int64_t i, Width width) const;
  FUSEDNORM_INLINE Along From(int64_t i) const { return Along(values + i); }
  const typename Vec::Scalar* values;
};

template <template <class> class Stat>
constexpr bool kIsSame = std::is_same<Stat<FloatVector>, Same<FloatVector>>::value;

// An array in the compute type is read like data of that type.
template <class Vec>
struct ScalarDataOf;
template <>
struct ScalarDataOf<FloatVector> {
  typedef FloatData type;
};
template <>
struct ScalarDataOf<DoubleVector> {
  typedef DoubleData type;
};
template <class Vec>
using ScalarData = typename ScalarDataOf<Vec>::type;

template <class Vec>
template <class Width>
FUSEDNORM_INLINE typename Vec::V Operand<Vec>::LoadScalars(const Scalar* from,
                                                           Width width) {
  return Load<ScalarData<Vec>>(from, width);
}

template <class Vec>
template <class Width>
FUSEDNORM_INLINE typename Vec::V Along<Vec>::At(int64_t i, Width width) const {
  return Load<ScalarData<Vec>>(values + i, width);
}

// array[i] += value
template <class Vec, class Width>
FUSEDNORM_INLINE void AddTo(typename Vec::Scalar* array, typename Vec::V value,
                            Width width) {
  typedef ScalarData<Vec> Scalars;
  Store<Scalars>(array, Load<Scalars>(array, width) + value, width);
}

// Sums vectors: in the compute type within a block, in double over blocks.
template <class Vec>
class BlockedSum {
 public:
  FUSEDNORM_INLINE void Add(typename Vec::V value) { block_ = block_ + value; }
  FUSEDNORM_INLINE void EndBlock() {
    total_ += SumLanes<Vec>(block_);
    block_ = typename Vec::V{};
  }
  FUSEDNORM_INLINE double total() const { return total_; }

 private:
  typename Vec::V block_ = {};
  double total_ = 0;
};

// Calls body(offset, width) over [0, count), and end_block() after each block.
template <class Vec, class Body, class EndBlock>
FUSEDNORM_INLINE void ForEachBlock(int64_t count, Body&& body, EndBlock&& end_block) {
  constexpr int64_t kBlock = kVectorsPerBlock * Vec::kLanes;
  for (int64_t begin = 0; begin < count; begin += kBlock) {
    const int64_t left = count - begin;
    ForEachVector<Vec>(left < kBlock ? left : kBlock,
                       [&](int64_t i, auto width)
                           FUSEDNORM_INLINE_LAMBDA { body(begin + i, width); });
    end_block();
  }
}

template <class Data>
void AddResidual(const typename Data::Storage* x,
                 const typename Data::Storage* residual, typename Data::Storage* sum,
                 int64_t count) {
  ForEachVector<typename Data::Vec>(
      count, [&](int64_t i, auto width) FUSEDNORM_INLINE_LAMBDA {
        Store<Data>(sum + i, Load<Data>(x + i, width) + Load<Data>(residual + i, width),
                    width);
      });
}

// How results are written: through the caches, or past them.
enum class Writes { kCached, kStreamed };

template <class Data, class Width>
FUSEDNORM_INLINE void StoreResult(typename Data::Storage* to,
                                  typename Data::Vec::V value, Width width,
                                  Writes writes) {
  if (writes == Writes::kStreamed) {
    StoreStreaming<Data>(to, value, width);
  } else {
    Store<Data>(to, value, width);
  }
}

// Stores value_at(offset, width) at each offset of a run.
template <class Data, class ValueAt>
FUSEDNORM_INLINE void ForEachResult(typename Data::Storage* to, int64_t count,
                                    Writes writes, ValueAt&& value_at) {
  const bool streamed = writes == Writes::kStreamed;
  ForEachVector<typename Data::Vec>(
      count, streamed ? CountUnaligned<Data>(to, count) : 0,
      [&](int64_t i, auto width) FUSEDNORM_INLINE_LAMBDA {
        StoreResult<Data>(to + i, value_at(i, width), width, writes);
      });
}

// What turns x into y. Stat is the kind of the group's statistics: Same or Along.
template <class Vec>
struct TransformValues {
  typename Vec::V mean, rstd, gamma, beta;
};
template <class Vec, template <class> class Stat>
struct Transform {
  template <class Width>
  FUSEDNORM_INLINE TransformValues<Vec> At(int64_t i, Width width) const {
    return {mean.At(i, width), rstd.At(i, width), gamma.At(i, width),
            beta.At(i, width)};
  }
  FUSEDNORM_INLINE Transform From(int64_t i) const {
    return {mean.From(i), rstd.From(i), gamma.From(i), beta.From(i)};
  }
  Stat<Vec> mean, rstd;
  Operand<Vec> gamma, beta;
};

// y = activation((x - mean) * rstd * gamma + beta)
template <class Data, class Act, template <class> class Stat>
void Apply(const typename Data::Storage* x, typename Data::Storage* y, int64_t count,
           const Transform<typename Data::Vec, Stat>& transform, Writes writes) {
  typedef typename Data::Vec Vec;
  const Transform<Vec, Stat> by_run = transform;
  ForEachResult<Data>(
      y, count, writes, [&](int64_t i, auto width) FUSEDNORM_INLINE_LAMBDA {
        const TransformValues<Vec> by = by_run.At(i, width);
        const typename Vec::V xhat = XhatOf(Load<Data>(x + i, width), by.mean, by.rstd);
        return Act::template Forward<VecMath<Vec>>(ZOf(xhat, by.gamma, by.beta));
      });
}

// xhat and dz of one vector of elements.
template <class Vec>
struct Recomputed {
  typename Vec::V xhat, dz;
};

// DyData is how dy is stored, if not like the other data.
template <class Data, class Act, class DyData = Data, class Width>
FUSEDNORM_INLINE Recomputed<typename Data::Vec> Recompute(
    const typename DyData::Storage* dy, const typename Data::Storage* x, Width width,
    const TransformValues<typename Data::Vec>& by) {
  typedef typename Data::Vec Vec;
  const typename Vec::V xhat = XhatOf(Load<Data>(x, width), by.mean, by.rstd);
  typename Vec::V dz = Load<DyData>(dy, width);
  if constexpr (!Act::kIsIdentity) {
    const typename Vec::V z = ZOf(xhat, by.gamma, by.beta);
    dz = DzOf(dz, Act::template Derivative<VecMath<Vec>>(z));
  }
  return {xhat, dz};
}

// Which sums of the backward pass a run adds to.
//            scalar sums                      array sums (per element of the run)
// kRow:      dz*gamma, dz*gamma*xhat (group)  dz, dz*xhat (dbeta, dgamma)
// kRun:      dz, dz*xhat (one channel)        none
// kLanes:    none                             dz, dz*xhat (channels)
// kColumns:  dz, dz*xhat (one channel)        dz*gamma, dz*gamma*xhat (groups)
enum class SumsOf { kRow, kRun, kLanes, kColumns };

typedef FirstOrderSums<double> SumPair;

// Sums FirstOrderTerms over runs: in the compute type over a block of vectors, in
// double over blocks.
template <class Vec>
struct PairSums {
  FUSEDNORM_INLINE SumPair Total() {
    Fold();
    return total;
  }
  FUSEDNORM_INLINE void Fold() {
    total.plain += SumLanes<Vec>(plain);
    total.with_xhat += SumLanes<Vec>(with_xhat);
    plain = with_xhat = typename Vec::V{};
    left = kVectorsPerBlock;
  }

  typename Vec::V plain = {}, with_xhat = {};
  int64_t left = kVectorsPerBlock;  // vectors until the sums go to double
  SumPair total = {};
};

// Computes dz.
template <class Data, class Act, template <class> class Stat>
void ComputeDz(const typename Data::Storage* dy, const typename Data::Storage* x,
               typename Data::Vec::Scalar* dz, int64_t count,
               const Transform<typename Data::Vec, Stat>& transform) {
  typedef typename Data::Vec Vec;
  const Transform<Vec, Stat> by_run = transform;
  ForEachVector<Vec>(count, [&](int64_t i, auto width) FUSEDNORM_INLINE_LAMBDA {
    const auto [xhat, dz_at] =
        Recompute<Data, Act>(dy + i, x + i, width, by_run.At(i, width));
    Store<ScalarData<Vec>>(dz + i, dz_at, width);
  });
}

// Adds to the sums of the run, and to the arrays unless they are null.
template <class Data, class Act, SumsOf kSums, template <class> class Stat,
          class DyData = Data>
void ReduceGradient(const typename DyData::Storage* dy, const typename Data::Storage* x,
                    int64_t count, const Transform<typename Data::Vec, Stat>& transform,
                    PairSums<typename Data::Vec>* sums,
                    typename Data::Vec::Scalar* plain_array,
                    typename Data::Vec::Scalar* xhat_array) {
  typedef typename Data::Vec Vec;
  typedef typename Vec::V V;
  constexpr bool kSumsRun = kSums != SumsOf::kLanes;
  const Transform<Vec, Stat> by_run = transform;
  for (int64_t begin = 0; begin < count;) {
    int64_t part = count - begin;
    V plain = {}, with_xhat = {};
    if constexpr (kSumsRun) {
      part = Min(part, sums->left * Vec::kLanes);
      plain = sums->plain;
      with_xhat = sums->with_xhat;
    }
    ForEachVector<Vec>(part, [&](int64_t in_part, auto width) FUSEDNORM_INLINE_LAMBDA {
      const int64_t i = begin + in_part;
      const TransformValues<Vec> by = by_run.At(i, width);
      const auto [xhat, dz] = Recompute<Data, Act, DyData>(dy + i, x + i, width, by);
      constexpr bool kWeighted = kSums == SumsOf::kRow || kSums == SumsOf::kColumns;
      const V dzg = kWeighted ? dz * by.gamma : dz;
      if constexpr (kSums != SumsOf::kRun) {
        const V term = kSums == SumsOf::kColumns ? dzg : dz;
        if (plain_array != nullptr) {
          const FirstOrderSums<V> terms = FirstOrderTerms(term, xhat);
          AddTo<Vec>(plain_array + i, terms.plain, width);
          AddTo<Vec>(xhat_array + i, terms.with_xhat, width);
        }
      }
      if constexpr (kSumsRun) {
        const V term = KeepTail<Vec>(kSums == SumsOf::kRow ? dzg : dz, width);
        const FirstOrderSums<V> terms = FirstOrderTerms(term, xhat);
        plain = plain + terms.plain;
        with_xhat = with_xhat + KeepTail<Vec>(terms.with_xhat, width);
      }
    });
    if constexpr (kSumsRun) {
      sums->plain = plain;
      sums->with_xhat = with_xhat;
      sums->left -= (part + Vec::kLanes - 1) / Vec::kLanes;
      if (sums->left == 0) sums->Fold();
    }
    begin += part;
  }
}

// The shares of a run's elements in dx.
template <class Vec, template <class> class Stat>
struct SharesAlong {
  template <class Width>
  FUSEDNORM_INLINE FirstOrderShares<typename Vec::V> At(int64_t i, Width width) const {
    return {plain.At(i, width), with_xhat.At(i, width), offset.At(i, width)};
  }
  FUSEDNORM_INLINE SharesAlong From(int64_t i) const {
    return {plain.From(i), with_xhat.From(i), offset.From(i)};
  }
  Stat<Vec> plain, with_xhat;
  Operand<Vec> offset;
};

template <class Vec>
FUSEDNORM_INLINE SharesAlong<Vec, Same> SharesOfRun(
    const FirstOrderShares<typename Vec::Scalar>& of_group) {
  return {Same<Vec>(of_group.plain), Same<Vec>(of_group.with_xhat),
          Operand<Vec>::Same(of_group.offset)};
}

// Writes dx, to which it adds dsum unless that is null. With each element it fetches
// the one that is `ahead` of it into the cache, unless `ahead` is 0.
template <class Data, class Act, template <class> class Stat, class DyData = Data>
void ApplyGradient(const typename DyData::Storage* dy, const typename Data::Storage* x,
                   const typename Data::Storage* dsum, typename Data::Storage* dx,
                   int64_t count, const Transform<typename Data::Vec, Stat>& transform,
                   const SharesAlong<typename Data::Vec, Stat>& of_run, int64_t ahead,
                   Writes writes) {
  typedef typename Data::Vec Vec;
  const Transform<Vec, Stat> by_run = transform;
  const SharesAlong<Vec, Stat> shares = of_run;
  ForEachResult<Data>(
      dx, count, writes, [&](int64_t i, auto width) FUSEDNORM_INLINE_LAMBDA {
        if (ahead != 0) {
          __builtin_prefetch(dy + i + ahead);
          __builtin_prefetch(x + i + ahead);
        }
        const TransformValues<Vec> by = by_run.At(i, width);
        const auto [xhat, dz] = Recompute<Data, Act, DyData>(dy + i, x + i, width, by);
        typename Vec::V dx = DxOf(dz, by.gamma, xhat, by.rstd, shares.At(i, width));
        if (dsum != nullptr) dx = dx + Load<Data>(dsum + i, width);
        return dx;
      });
}

// The functions above for an activation. Callers that take them from here are compiled
// once for all activations. Rows have the same statistics along a run, lanes have not.
//
// With a transcendental activation dz is computed by a function of its own, block by
// block, and the others are those of no activation with dz in place of dy. They read
// the block from the first cache. If they were compiled for each activation, half of
// the compiler's time would go there.
template <class Data, template <class> class Stat>
class Segments {
 public:
  typedef typename Data::Storage Storage;
  typedef typename Data::Vec Vec;
  typedef typename Vec::Scalar Scalar;
  typedef Transform<Vec, Stat> By;

  static Segments For(Activation activation) {
    Segments segments;
    VisitActivation(activation, [&](auto act) { segments = Of<decltype(act)>(); });
    return segments;
  }

  FUSEDNORM_INLINE void WriteResult(const Storage* x, Storage* y, int64_t count,
                                    const By& by, Writes writes) const {
    apply_(x, y, count, by, writes);
  }

  // Keeps dz unless kept_dz is null; only a transcendental activation may keep it. The
  // sums are those of parameters that vary along the run, or of one that does not.
  FUSEDNORM_INLINE void ReduceAlong(const Storage* dy, const Storage* x,
                                    Scalar* kept_dz, int64_t count, const By& by,
                                    PairSums<Vec>* sums, Scalar* plain_array,
                                    Scalar* xhat_array) const {
    Reduce(reduce_along_, ReduceGradient<Data, NoActivation, kAlong, Stat, Scalars>, dy,
           x, kept_dz, count, by, sums, plain_array, xhat_array);
  }
  FUSEDNORM_INLINE void ReduceSame(const Storage* dy, const Storage* x, Scalar* kept_dz,
                                   int64_t count, const By& by, PairSums<Vec>* sums,
                                   Scalar* plain_array, Scalar* xhat_array) const {
    Reduce(reduce_same_, ReduceGradient<Data, NoActivation, kSame, Stat, Scalars>, dy,
           x, kept_dz, count, by, sums, plain_array, xhat_array);
  }

  // The second pass of backward over a run of the tensor. Takes dz if it was kept.
  FUSEDNORM_INLINE void WriteGradient(const Gradients<Storage, Scalar>& in,
                                      const Scalar* kept_dz, int64_t offset,
                                      Storage* dx, int64_t count, const By& by,
                                      const SharesAlong<Vec, Stat>& shares,
                                      int64_t ahead, Writes writes) const {
    const Storage* const dy = in.dy + offset;
    const Storage* const x = in.x + offset;
    const Storage* const dsum = in.dsum == nullptr ? nullptr : in.dsum + offset;
    dx += offset;
    constexpr auto kApplyDz = ApplyGradient<Data, NoActivation, Stat, Scalars>;
    if (kept_dz != nullptr) {
      kApplyDz(kept_dz, x, dsum, dx, count, by, shares, ahead, writes);
    } else if (compute_dz_ == nullptr) {
      apply_gradient_(dy, x, dsum, dx, count, by, shares, ahead, writes);
    } else {
      ForEachBlockOfDz(
          dy, x, nullptr, count, by,
          [&](const Scalar* dz, int64_t begin, int64_t part, const By& from_begin) {
            kApplyDz(dz, x + begin, dsum == nullptr ? nullptr : dsum + begin,
                     dx + begin, part, from_begin, shares.From(begin), 0, writes);
          });
    }
  }

 private:
  typedef ScalarData<Vec> Scalars;
  template <class Dy>
  using Reduces = void (*)(const Dy* dy, const Storage* x, int64_t, const By&,
                           PairSums<Vec>*, Scalar*, Scalar*);
  typedef void (*Writer)(const Storage* dy, const Storage* x, const Storage* dsum,
                         Storage* dx, int64_t, const By&, const SharesAlong<Vec, Stat>&,
                         int64_t ahead, Writes);
  static constexpr SumsOf kAlong = kIsSame<Stat> ? SumsOf::kRow : SumsOf::kLanes;
  static constexpr SumsOf kSame = kIsSame<Stat> ? SumsOf::kRun : SumsOf::kColumns;

  template <class Act>
  static Segments Of() {
    Segments segments;
    segments.apply_ = Apply<Data, Act, Stat>;
    if constexpr (Act::kIsTranscendental) {
      segments.compute_dz_ = ComputeDz<Data, Act, Stat>;
    } else {
      segments.reduce_along_ = ReduceGradient<Data, Act, kAlong, Stat>;
      segments.reduce_same_ = ReduceGradient<Data, Act, kSame, Stat>;
      segments.apply_gradient_ = ApplyGradient<Data, Act, Stat>;
    }
    return segments;
  }

  // Calls function(dz, offset in the run, count, by) for blocks of whole vectors.
  template <class Function>
  FUSEDNORM_INLINE void ForEachBlockOfDz(const Storage* dy, const Storage* x,
                                         Scalar* kept_dz, int64_t count, const By& by,
                                         Function&& function) const {
    constexpr int64_t kBlock = kVectorsPerBlock * Vec::kLanes;
    Scalar block[kBlock];
    const auto run = [&](int64_t begin, const By& from_begin) {
      const int64_t part = Min(kBlock, count - begin);
      Scalar* const dz = kept_dz == nullptr ? block : kept_dz + begin;
      compute_dz_(dy + begin, x + begin, dz, part, from_begin);
      function(dz, begin, part, from_begin);
    };
    run(0, by);
    for (int64_t begin = kBlock; begin < count; begin += kBlock) {
      run(begin, by.From(begin));
    }
  }

  FUSEDNORM_INLINE void Reduce(Reduces<Storage> reduce, Reduces<Scalar> reduce_dz,
                               const Storage* dy, const Storage* x, Scalar* kept_dz,
                               int64_t count, const By& by, PairSums<Vec>* sums,
                               Scalar* plain_array, Scalar* xhat_array) const {
    if (compute_dz_ == nullptr) {
      return reduce(dy, x, count, by, sums, plain_array, xhat_array);
    }
    ForEachBlockOfDz(
        dy, x, kept_dz, count, by,
        [&](const Scalar* dz, int64_t begin, int64_t part, const By& from_begin) {
          const bool has_arrays = plain_array != nullptr;
          reduce_dz(dz, x + begin, part, from_begin, sums,
                    has_arrays ? plain_array + begin : nullptr,
                    has_arrays ? xhat_array + begin : nullptr);
        });
  }

  void (*apply_)(const Storage*, Storage*, int64_t, const By&, Writes) = nullptr;
  // Null unless the activation is transcendental.
  void (*compute_dz_)(const Storage* dy, const Storage* x, Scalar* dz, int64_t,
                      const By&) = nullptr;
  // Null if the activation is transcendental.
  Reduces<Storage> reduce_along_ = nullptr, reduce_same_ = nullptr;
  Writer apply_gradient_ = nullptr;
};
