// The arithmetic of every norm on a contiguous run of elements. The walks decide which
// runs, and what varies along one.
//
// Included only by kernels.cc, inside its per-instruction-set namespace.
#pragma once

// Vectors summed in the compute type before the sum goes to double: bounds the rounding
// error of a sum by that of 64 additions whatever its length.
constexpr int64_t kVectorsPerBlock = 64;

// A value that is the same along a run, or one of an array read beside it.
template <class Vec>
class Operand {
 public:
  typedef typename Vec::Scalar Scalar;
  static FUSEDNORM_INLINE Operand Same(Scalar value) {
    return Operand(nullptr, Vec::Splat(value));
  }
  static FUSEDNORM_INLINE Operand Along(const Scalar* values) {
    return Operand(values, typename Vec::V{});
  }
  template <class Width>
  FUSEDNORM_INLINE typename Vec::V At(int64_t i, Width width) const {
    if (values_ == nullptr) return same_;
    return LoadScalars(values_ + i, width);
  }

 private:
  FUSEDNORM_INLINE Operand(const Scalar* values, typename Vec::V same)
      : values_(values), same_(same) {}
  template <class Width>
  static FUSEDNORM_INLINE typename Vec::V LoadScalars(const Scalar* from, Width width);

  const Scalar* values_;
  typename Vec::V same_;
};

// Arrays in the compute type are data of that type.
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
template <class Width>
FUSEDNORM_INLINE typename Vec::V Operand<Vec>::LoadScalars(const Scalar* from,
                                                           Width width) {
  return Load<typename ScalarDataOf<Vec>::type>(from, width);
}

// array[i] += value
template <class Vec, class Width>
FUSEDNORM_INLINE void AddTo(typename Vec::Scalar* array, typename Vec::V value,
                            Width width) {
  typedef typename ScalarDataOf<Vec>::type Scalars;
  Store<Scalars>(array, Load<Scalars>(array, width) + value, width);
}

// Sums a value per vector: in the compute type within a block, in double beyond.
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

// Calls body(offset, width) over [0, count), end_block() after each block.
template <class Vec, class Body, class EndBlock>
FUSEDNORM_INLINE void ForEachBlock(int64_t count, Body&& body, EndBlock&& end_block) {
  constexpr int64_t kBlock = kVectorsPerBlock * Vec::kLanes;
  for (int64_t begin = 0; begin < count; begin += kBlock) {
    const int64_t left = count - begin;
    ForEachVector<Vec>(left < kBlock ? left : kBlock,
                       [&](int64_t i, auto width) { body(begin + i, width); });
    end_block();
  }
}

template <class Data>
void AddResidual(const typename Data::Storage* x,
                 const typename Data::Storage* residual, typename Data::Storage* sum,
                 int64_t count) {
  ForEachVector<typename Data::Vec>(count, [&](int64_t i, auto width) {
    Store<Data>(sum + i, Load<Data>(x + i, width) + Load<Data>(residual + i, width),
                width);
  });
}

// sum(x - shift). With the shift an element of the group, a constant group sums to
// exactly zero and a mean far from zero costs no digits.
template <class Data>
double SumShifted(const typename Data::Storage* x, int64_t count,
                  typename Data::Vec::Scalar shift) {
  typedef typename Data::Vec Vec;
  const typename Vec::V s = Vec::Splat(shift);
  BlockedSum<Vec> sum;
  ForEachBlock<Vec>(
      count,
      [&](int64_t i, auto width) {
        sum.Add(KeepTail<Vec>(Load<Data>(x + i, width) - s, width));
      },
      [&] { sum.EndBlock(); });
  return sum.total();
}

// sum(x - mean), which corrects what rounding left in the mean, and sum((x - mean)^2).
template <class Data>
void SumSquares(const typename Data::Storage* x, int64_t count,
                typename Data::Vec::Scalar mean, double* sum, double* squares) {
  typedef typename Data::Vec Vec;
  const typename Vec::V m = Vec::Splat(mean);
  BlockedSum<Vec> first, second;
  ForEachBlock<Vec>(
      count,
      [&](int64_t i, auto width) {
        const typename Vec::V d = KeepTail<Vec>(Load<Data>(x + i, width) - m, width);
        first.Add(d);
        second.Add(d * d);
      },
      [&] {
        first.EndBlock();
        second.EndBlock();
      });
  *sum += first.total();
  *squares += second.total();
}

// What turns x into y along a run.
template <class Vec>
struct Transform {
  Operand<Vec> mean, rstd, gamma, beta;
};

// y = activation((x - mean) * rstd * gamma + beta)
template <class Data, class Act>
void Apply(const typename Data::Storage* x, typename Data::Storage* y, int64_t count,
           const Transform<typename Data::Vec>& by) {
  typedef typename Data::Vec Vec;
  ForEachVector<Vec>(count, [&](int64_t i, auto width) {
    const typename Vec::V xhat =
        (Load<Data>(x + i, width) - by.mean.At(i, width)) * by.rstd.At(i, width);
    const typename Vec::V z = xhat * by.gamma.At(i, width) + by.beta.At(i, width);
    Store<Data>(y + i, Act::template Forward<VecMath<Vec>>(z), width);
  });
}

// xhat and dz = dy * activation'(z) of one vector.
template <class Vec>
struct Recomputed {
  typename Vec::V xhat, dz;
};

template <class Data, class Act, class Width>
FUSEDNORM_INLINE Recomputed<typename Data::Vec> Recompute(
    const typename Data::Storage* dy, const typename Data::Storage* x, int64_t i,
    Width width, const Transform<typename Data::Vec>& by) {
  typedef typename Data::Vec Vec;
  const typename Vec::V xhat =
      (Load<Data>(x + i, width) - by.mean.At(i, width)) * by.rstd.At(i, width);
  typename Vec::V dz = Load<Data>(dy + i, width);
  if constexpr (!Act::kIsIdentity) {
    const typename Vec::V z = xhat * by.gamma.At(i, width) + by.beta.At(i, width);
    dz = dz * Act::template Derivative<VecMath<Vec>>(z);
  }
  return {xhat, dz};
}

// Which sums of the backward pass a run contributes to.
//            scalar sums                      array sums (per element of the run)
// kRow:      dz*gamma, dz*gamma*xhat (group)  dz, dz*xhat (dbeta, dgamma)
// kRun:      dz, dz*xhat (one channel)        none
// kLanes:    none                             dz, dz*xhat (channels)
// kColumns:  dz, dz*xhat (one channel)        dz*gamma, dz*gamma*xhat (groups)
enum class SumsOf { kRow, kRun, kLanes, kColumns };

// The two sums, plain and times xhat.
struct SumPair {
  double plain = 0;
  double xhat = 0;
};

// Adds to the arrays (null: not wanted) and returns the scalar sums.
template <class Data, class Act, SumsOf kSums>
SumPair ReduceGradient(const typename Data::Storage* dy,
                       const typename Data::Storage* x, int64_t count,
                       const Transform<typename Data::Vec>& by,
                       typename Data::Vec::Scalar* plain_array,
                       typename Data::Vec::Scalar* xhat_array) {
  typedef typename Data::Vec Vec;
  typedef typename Vec::V V;
  BlockedSum<Vec> plain, with_xhat;
  ForEachBlock<Vec>(
      count,
      [&](int64_t i, auto width) {
        const auto [xhat, dz] = Recompute<Data, Act>(dy, x, i, width, by);
        const V dzg = dz * by.gamma.At(i, width);
        if constexpr (kSums != SumsOf::kRun) {
          const V term = kSums == SumsOf::kColumns ? dzg : dz;
          if (plain_array != nullptr) {
            AddTo<Vec>(plain_array + i, term, width);
            AddTo<Vec>(xhat_array + i, term * xhat, width);
          }
        }
        if constexpr (kSums != SumsOf::kLanes) {
          const V term = KeepTail<Vec>(kSums == SumsOf::kRow ? dzg : dz, width);
          plain.Add(term);
          with_xhat.Add(KeepTail<Vec>(term * xhat, width));
        }
      },
      [&] {
        plain.EndBlock();
        with_xhat.EndBlock();
      });
  return {plain.total(), with_xhat.total()};
}

// What the group's sums contribute to dx.
template <class Vec>
struct Correction {
  Operand<Vec> plain, xhat, offset;
};

// dx = rstd * (dz * gamma - plain - xhat * with_xhat) + offset [+ dsum]
template <class Data, class Act>
void ApplyGradient(const typename Data::Storage* dy, const typename Data::Storage* x,
                   const typename Data::Storage* dsum, typename Data::Storage* dx,
                   int64_t count, const Transform<typename Data::Vec>& by,
                   const Correction<typename Data::Vec>& correction) {
  typedef typename Data::Vec Vec;
  ForEachVector<Vec>(count, [&](int64_t i, auto width) {
    const auto [xhat, dz] = Recompute<Data, Act>(dy, x, i, width, by);
    typename Vec::V grad =
        by.rstd.At(i, width) *
            (dz * by.gamma.At(i, width) - correction.plain.At(i, width) -
             xhat * correction.xhat.At(i, width)) +
        correction.offset.At(i, width);
    if (dsum != nullptr) grad = grad + Load<Data>(dsum + i, width);
    Store<Data>(dx + i, grad, width);
  });
}

// The functions above that depend on the activation, so that what calls them does not.
template <class Data>
struct Segments {
  typedef typename Data::Storage Storage;
  typedef typename Data::Vec Vec;
  typedef SumPair (*Reduce)(const Storage*, const Storage*, int64_t,
                            const Transform<Vec>&, typename Vec::Scalar*,
                            typename Vec::Scalar*);

  template <class Act>
  static Segments Of() {
    return {Apply<Data, Act>,
            ReduceGradient<Data, Act, SumsOf::kRow>,
            ReduceGradient<Data, Act, SumsOf::kRun>,
            ReduceGradient<Data, Act, SumsOf::kLanes>,
            ReduceGradient<Data, Act, SumsOf::kColumns>,
            ApplyGradient<Data, Act>};
  }
  static Segments For(Activation activation) {
    Segments segments;
    VisitActivation(activation, [&](auto act) { segments = Of<decltype(act)>(); });
    return segments;
  }

  void (*apply)(const Storage*, Storage*, int64_t, const Transform<Vec>&);
  Reduce reduce_row, reduce_run, reduce_lanes, reduce_columns;
  void (*apply_gradient)(const Storage*, const Storage*, const Storage*, Storage*,
                         int64_t, const Transform<Vec>&, const Correction<Vec>&);
};
