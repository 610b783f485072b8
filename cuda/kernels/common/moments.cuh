// What kernels store for a part of a group: its mean and its sum of squared deviations,
// and how those of several parts are joined (Chan, Golub and LeVeque, "Updating
// formulae and a pairwise algorithm for computing sample variances", 1979).
#pragma once

#include "core/first_order.h"
#include "cuda/kernels/common/math.cuh"
#include "cuda/kernels/common/number.cuh"
#include "cuda/kernels/common/team.cuh"

namespace fusednorm {
namespace cuda {

// The mean is kept as its distance from an element near it. Otherwise the rounding of
// the mean, and the difference of two means, could be large beside the standard
// deviation.
template <class C>
struct Moments {
  C near;
  C mean;     // the mean minus `near`
  C squares;  // sum of squared deviations, or of squares if not centred
  C count;
};

// Moments in shared memory, whose numbers are `pitch` apart.
template <class C>
FUSEDNORM_DEVICE Moments<C> GetMoments(const device::Shared<C>& from, int at,
                                       int pitch = 1) {
  return {from.Get(at), from.Get(at + pitch), from.Get(at + 2 * pitch),
          from.Get(at + 3 * pitch)};
}
template <class C>
FUSEDNORM_DEVICE void SetMoments(const device::Shared<C>& to, int at,
                                 const Moments<C>& moments, int pitch = 1) {
  to.Set(at, moments.near);
  to.Set(at + pitch, moments.mean);
  to.Set(at + 2 * pitch, moments.squares);
  to.Set(at + 3 * pitch, moments.count);
}
// Moments in the shared memory of another block of the cluster.
template <class C>
FUSEDNORM_DEVICE Moments<C> GetMomentsFrom(const device::Shared<C>& from, int rank,
                                           int at) {
  return {from.GetFrom(rank, at), from.GetFrom(rank, at + 1),
          from.GetFrom(rank, at + 2), from.GetFrom(rank, at + 3)};
}

// Moments in the workspace, which blocks of one launch exchange.
template <class C>
FUSEDNORM_DEVICE Moments<C> FetchMoments(const void* partial, int64_t i) {
  const C* at = static_cast<const C*>(partial) + kMomentsNumbers * i;
  return {device::Fetch(at), device::Fetch(at + 1), device::Fetch(at + 2),
          device::Fetch(at + 3)};
}
template <class C>
FUSEDNORM_DEVICE void PublishMoments(void* partial, int64_t i,
                                     const Moments<C>& moments) {
  C* at = static_cast<C*>(partial) + kMomentsNumbers * i;
  device::Publish(at, moments.near);
  device::Publish(at + 1, moments.mean);
  device::Publish(at + 2, moments.squares);
  device::Publish(at + 3, moments.count);
}

// A sum that also keeps what rounding has lost, and adds it back (Kahan, "Further
// remarks on reducing truncation errors", 1965). A long chain of additions then loses
// no more than a short one.
template <class C>
struct LongSum {
  C sum = 0;
  C lost = 0;

  FUSEDNORM_DEVICE void Add(C value) {
    const C whole = value - lost;
    const C next = sum + whole;
    const C rest = (next - sum) - whole;
    lost = rest == rest ? rest : C(0);  // NaN where the sum is infinite
    sum = next;
  }
};

// Joins the parts that `team` neighbouring lanes hold. for_each(visit) visits the parts
// of the calling lane, and must visit the same ones each time. Every lane gets the same
// bits. The order of operations depends on the sizes alone. All lanes of the warp must
// call.
//
// The parts are visited twice: first to find a value near the mean of all, then to add
// up around that value. The first element of the first part would not do: if it is an
// outlier, the sums around it lose the differences between the parts.
template <class T, class ForEach>
FUSEDNORM_DEVICE Moments<typename Number<T>::Compute> JoinTeam(
    int team, bool centred, const ForEach& for_each) {
  typedef typename Number<T>::Compute C;
  const int lane = device::Thread() % device::kWarp;
  C near = 0, total = 0;
  for_each([&](const Moments<C>& part) {
    if (total == C(0) && part.count > C(0)) near = part.near;
    total += part.count;
  });
  // The first part of the team that is not empty. With a mask all may be empty.
  for (int mask = 1; mask < team; mask *= 2) {
    const C other_near = device::ShuffleXor(near, mask);
    const C other = device::ShuffleXor(total, mask);
    const bool others = (lane & mask) == 0 ? total == C(0) : other > C(0);
    if (others) near = other_near;
    total += other;
  }
  const C inverse = total > C(0) ? C(1) / total : C(0);
  C centre = 0;
  if (centred) {
    C sum = 0;
    for_each([&](const Moments<C>& part) {
      sum += part.count * ((part.near - near) + part.mean);
    });
    centre = Rounded<T>(near + LaneSum(sum, team) * inverse);
  }
  C weighted = 0, squares = 0;
  for_each([&](const Moments<C>& part) {
    const C away = centred ? (part.near - centre) + part.mean : C(0);
    weighted += part.count * away;
    squares += part.squares + part.count * away * away;
  });
  weighted = LaneSum(weighted, team);
  squares = LaneSum(squares, team);
  const C mean = weighted * inverse;
  squares -= weighted * mean;
  return {centre, mean, squares < C(0) ? C(0) : squares, total};
}

// Backward's two sums of a part of a group, at index `i` of the partial sums.
template <class C>
FUSEDNORM_DEVICE FirstOrderSums<C> LoadSums(const void* partial, int64_t i) {
  const C* at = static_cast<const C*>(partial) + 2 * i;
  return {device::Load(at), device::Load(at + 1)};
}
template <class C>
FUSEDNORM_DEVICE void StoreSums(void* partial, int64_t i, C plain, C with_xhat) {
  C* at = static_cast<C*>(partial) + 2 * i;
  device::Store(at, plain);
  device::Store(at + 1, with_xhat);
}

template <class C>
FUSEDNORM_DEVICE FirstOrderSums<C> FetchSums(const void* partial, int64_t i) {
  const C* at = static_cast<const C*>(partial) + 2 * i;
  return {device::Fetch(at), device::Fetch(at + 1)};
}
template <class C>
FUSEDNORM_DEVICE void PublishSums(void* partial, int64_t i, C plain, C with_xhat) {
  C* at = static_cast<C*>(partial) + 2 * i;
  device::Publish(at, plain);
  device::Publish(at + 1, with_xhat);
}

}  // namespace cuda
}  // namespace fusednorm
