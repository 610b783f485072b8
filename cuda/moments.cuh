// What kernels leave behind of parts of a group: mean and sum of squared deviations,
// and how they join (Chan, Golub and LeVeque, "Updating formulae and a pairwise
// algorithm for computing sample variances", 1979).
#pragma once

#include "cuda/math.cuh"
#include "cuda/team.cuh"

namespace fusednorm {
namespace cuda {

// A mean is kept as its distance from an element near it, so that neither rounding nor
// subtracting means costs more than the standard deviation is worth.
template <class C>
struct Moments {
  C near;
  C mean;     // less near
  C squares;  // sum of squared deviations from the mean; of squares, where not centred
};
constexpr int kMomentsNumbers = 3;

template <class C>
FUSEDNORM_DEVICE Moments<C> LoadMoments(const void* partial, int64_t i) {
  const C* at = static_cast<const C*>(partial) + kMomentsNumbers * i;
  return {device::Load(at), device::Load(at + 1), device::Load(at + 2)};
}
template <class C>
FUSEDNORM_DEVICE void StoreMoments(void* partial, int64_t i,
                                   const Moments<C>& moments) {
  C* at = static_cast<C*>(partial) + kMomentsNumbers * i;
  device::Store(at, moments.near);
  device::Store(at + 1, moments.mean);
  device::Store(at + 2, moments.squares);
}

// Joins the parts that the callers hold, all around the same element, of `count`
// elements each (0: none) and `total` together. `Sum` adds a number over the callers.
template <class C, class Sum>
FUSEDNORM_DEVICE Moments<C> Join(const Moments<C>& part, C count, C total, bool centred,
                                 const Sum& sum) {
  if (!centred) return {C(0), C(0), sum(part.squares)};
  const C mean = sum(count * part.mean) / total;
  const C away = part.mean - mean;
  return {part.near, mean, sum(part.squares + count * away * away)};
}

// Two sums of a part of a group, which backward leaves behind.
template <class C>
struct SumPair {
  C plain;
  C with_xhat;
};

template <class C>
FUSEDNORM_DEVICE SumPair<C> LoadSums(const void* partial, int64_t i) {
  const C* at = static_cast<const C*>(partial) + 2 * i;
  return {device::Load(at), device::Load(at + 1)};
}
template <class C>
FUSEDNORM_DEVICE void StoreSums(void* partial, int64_t i, C plain, C with_xhat) {
  C* at = static_cast<C*>(partial) + 2 * i;
  device::Store(at, plain);
  device::Store(at + 1, with_xhat);
}

}  // namespace cuda
}  // namespace fusednorm
