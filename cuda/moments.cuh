// Mean and sum of squared deviations of parts of a group, and how they join (Chan,
// Golub and LeVeque, "Updating formulae and a pairwise algorithm for computing sample
// variances", 1979).
#pragma once

#include "cuda/math.cuh"
#include "cuda/team.cuh"

namespace fusednorm {
namespace cuda {

template <class C>
struct Moments {
  C mean;
  C squares;  // sum of squared deviations from the mean; of squares, where not centred
};

template <class C>
FUSEDNORM_DEVICE Moments<C> LoadMoments(const void* partial, int64_t i) {
  const C* at = static_cast<const C*>(partial) + 2 * i;
  return {device::Load(at), device::Load(at + 1)};
}
template <class C>
FUSEDNORM_DEVICE void StoreMoments(void* partial, int64_t i,
                                   const Moments<C>& moments) {
  C* at = static_cast<C*>(partial) + 2 * i;
  device::Store(at, moments.mean);
  device::Store(at + 1, moments.squares);
}

// Joins the parts that the callers hold, of `count` elements each (0: none) and `total`
// together, around a mean that all callers know. `Sum` adds a number over the callers.
template <class C, class Sum>
FUSEDNORM_DEVICE Moments<C> Join(const Moments<C>& part, C count, C total, C near,
                                 bool centred, const Sum& sum) {
  if (!centred) return {C(0), sum(part.squares)};
  const C mean = near + sum(count * (part.mean - near)) / total;
  const C away = part.mean - mean;
  return {mean, sum(count == C(0) ? C(0) : part.squares + count * away * away)};
}

}  // namespace cuda
}  // namespace fusednorm
