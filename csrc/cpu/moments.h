// Count, mean and squared deviations of a group, from one reading of its elements.
//
// Elements are summed as distances from a number near their mean: the mean of all
// elements before them. This number is taken anew after at most as many elements as it
// was taken from. It changes from block to block, but what this adds to the sum of
// squares is never more than the variance between the blocks, so nothing cancels. The
// first elements have no such number, and are read twice.
//
// Included only by kernels.cc, inside its per-instruction-set namespace.
#pragma once

// There is no type wider than double to sum double data in. Instead, what each addition
// rounds off is added to the next one (Kahan).
template <class Scalar>
constexpr bool kCarries = sizeof(Scalar) == sizeof(double);
FUSEDNORM_INLINE void AddCarrying(double term, double* total, double* lost) {
  term -= *lost;
  const double sum = *total + term;
  *lost = (sum - *total) - term;
  *total = sum;
}

struct Moments {
  double count;
  double mean;     // the distance from the group's origin
  double squares;  // of distances from the mean; of elements if not centred

  // Chan's formula. `lost` is what the roundings of the mean have lost so far.
  FUSEDNORM_INLINE void Join(const Moments& other, double* lost) {
    const double total = count + other.count;
    if (total == 0) return;
    const double delta = other.mean - mean;
    AddCarrying(delta * (other.count / total), &mean, lost);
    // In this order, 0 times a product that would overflow stays 0.
    squares += other.squares + count * (other.count / total) * delta * delta;
    count = total;
  }
};

// The moments of `count` elements, from the sums of their distances from `shift` and of
// the squares of these.
FUSEDNORM_INLINE Moments MomentsOf(double count, double per_element, double sum,
                                   double squares, double shift, bool centred) {
  if (!centred) return {count, 0, squares};
  const double mean = sum * per_element;
  return {count, shift + mean, squares - mean * sum};
}

// The mean of a block, summed in the compute type. A block has at most kVectorsPerBlock
// vectors.
template <class Data>
FUSEDNORM_INLINE typename Data::Vec::Scalar MeanOfBlock(const typename Data::Storage* x,
                                                        int64_t count,
                                                        double per_element) {
  typedef typename Data::Vec Vec;
  const typename Vec::Scalar origin = LoadOne<Data>(x);
  const typename Vec::V at_origin = Vec::Splat(origin);
  typename Vec::V sums[2] = {};
  ForEachVectorInTwos<Vec>(
      count, [&](int64_t i, int which, auto width) FUSEDNORM_INLINE_LAMBDA {
        sums[which] =
            sums[which] + KeepTail<Vec>(Load<Data>(x + i, width) - at_origin, width);
      });
  return static_cast<typename Vec::Scalar>(origin + SumLanes<Vec>(sums[0] + sums[1]) *
                                                        per_element);
}

// Adds the distances from a number, and their squares, to two sums side by side each.
template <class Data>
FUSEDNORM_INLINE void AddDistances(const typename Data::Storage* x, int64_t count,
                                   typename Data::Vec::Scalar from,
                                   typename Data::Vec::V (&all_sums)[2],
                                   typename Data::Vec::V (&all_squares)[2]) {
  typedef typename Data::Vec Vec;
  typedef typename Vec::V V;
  const V shift = Vec::Splat(from);
  // These copies stay in registers.
  V sums[2] = {all_sums[0], all_sums[1]};
  V squares[2] = {all_squares[0], all_squares[1]};
  ForEachVectorInTwos<Vec>(
      count, [&](int64_t i, int which, auto width) FUSEDNORM_INLINE_LAMBDA {
        const V d = KeepTail<Vec>(Load<Data>(x + i, width) - shift, width);
        sums[which] = sums[which] + d;
        squares[which] = squares[which] + d * d;
      });
  for (int which = 0; which < 2; ++which) {
    all_sums[which] = sums[which];
    all_squares[which] = squares[which];
  }
}

// The moments of a block that is a whole group. `mean` is near the group's mean; the
// result has the mean itself.
template <class Data>
FUSEDNORM_INLINE Moments MomentsOfBlock(const typename Data::Storage* x, int64_t count,
                                        double per_element,
                                        typename Data::Vec::Scalar mean, bool centred) {
  typedef typename Data::Vec Vec;
  typename Vec::V sums[2] = {}, squares[2] = {};
  AddDistances<Data>(x, count, mean, sums, squares);
  const double from_origin = centred ? static_cast<double>(mean) - LoadOne<Data>(x) : 0;
  return MomentsOf(static_cast<double>(count), per_element,
                   SumLanes<Vec>(sums[0] + sums[1]),
                   SumLanes<Vec>(squares[0] + squares[1]), from_origin, centred);
}

// The moments of several runs, one after the other.
template <class Data>
class RunMoments {
 public:
  typedef typename Data::Storage Storage;
  typedef typename Data::Vec Vec;
  typedef typename Vec::Scalar Scalar;
  typedef typename Vec::V V;

  // The origin should be an element of the group. Then a constant group has deviations
  // of exactly zero, and a mean far from zero costs no digits.
  RunMoments(bool centred, Scalar origin)
      : centred_(centred), origin_(origin), shift_(origin) {}

  void Add(const Storage* x, int64_t count) {
    if (count == 0) return;
    if (left_ == 0) Begin(x, count);
    while (count > 0) {
      const int64_t part = Min(count, left_ * Vec::kLanes);
      AddDistances<Data>(x, part, shift_, sums_, squares_);
      elements_ += part;
      left_ -= (part + Vec::kLanes - 1) / Vec::kLanes;
      if (left_ == 0) Fold();
      x += part;
      count -= part;
    }
  }

  Moments Total() {
    if (elements_ > 0) Fold();
    return moments_;
  }

 private:
  static constexpr int kSums = 2;  // sums side by side

  void Begin(const Storage* x, int64_t count) {
    left_ = Min((count + Vec::kLanes - 1) / Vec::kLanes, kVectorsPerBlock);
    if (!centred_) return;
    const int64_t first = Min(count, left_ * Vec::kLanes);
    const V shift = Vec::Splat(shift_);
    V sums[kSums] = {};
    ForEachVectorInTwos<Vec>(
        first, [&](int64_t i, int which, auto width) FUSEDNORM_INLINE_LAMBDA {
          sums[which] =
              sums[which] + KeepTail<Vec>(Load<Data>(x + i, width) - shift, width);
        });
    shift_ = static_cast<Scalar>(origin_ + SumAll(sums) / first);
  }

  void Fold() {
    const double sum = SumAll(sums_);
    const double count = static_cast<double>(elements_);
    moments_.Join(MomentsOf(count, 1 / count, sum, SumAll(squares_),
                            static_cast<double>(shift_) - origin_, centred_),
                  &lost_);
    for (V& each : sums_) each = V{};
    for (V& each : squares_) each = V{};
    vectors_ += (elements_ + Vec::kLanes - 1) / Vec::kLanes;
    elements_ = 0;
    left_ = Min(vectors_, kVectorsPerBlock);
    if (centred_) shift_ = static_cast<Scalar>(origin_ + moments_.mean);
  }

  static FUSEDNORM_INLINE double SumAll(const V (&sums)[kSums]) {
    return SumLanes<Vec>(sums[0] + sums[1]);
  }

  const bool centred_;
  const Scalar origin_;
  Scalar shift_;
  V sums_[kSums] = {};
  V squares_[kSums] = {};
  int64_t elements_ = 0;  // elements in the sums
  int64_t left_ = 0;      // vectors until the sums are joined to the moments
  int64_t vectors_ = 0;   // vectors in the moments
  Moments moments_ = {};
  double lost_ = 0;
};
