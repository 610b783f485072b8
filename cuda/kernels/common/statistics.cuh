// From a group's sums to the numbers that its elements need: mean and rstd in forward,
// the shares in dx in backward.
#pragma once

#include "cuda/kernels/common/affine.cuh"
#include "cuda/kernels/common/math.cuh"
#include "cuda/kernels/common/moments.cuh"
#include "cuda/kernels/mask/mask.cuh"

namespace fusednorm {
namespace cuda {

template <class C>
struct Statistics {
  C mean, rstd;
};
template <class C>
FUSEDNORM_DEVICE Statistics<C> StatisticsOf(const ForwardArgs& args,
                                            const Moments<C>& joined, C inverse_count) {
  const C variance = joined.squares * inverse_count;
  return {joined.near + joined.mean,
          InverseSqrt(variance + static_cast<C>(args.epsilon))};
}
template <class C>
FUSEDNORM_DEVICE Statistics<C> StatisticsOf(const ForwardArgs& args,
                                            const Moments<C>& joined) {
  return StatisticsOf(args, joined,
                      args.mask.positions == nullptr
                          ? static_cast<C>(args.inverse_count)
                          : Inverse(joined.count));
}

// The shares of a group's elements in dx, from the group's sums. Loads rstd and finds
// the number of elements, which depends on the group under a mask.
template <class C>
FUSEDNORM_DEVICE JoinedShares<C> JoinedSharesOfGroup(const BackwardArgs& args,
                                                     const FirstOrderSums<C>& sums,
                                                     int64_t group) {
  const C rstd = device::Load(static_cast<const C*>(args.rstd) + group);
  const FirstOrderShares<C> shares = SharesOfGroup(
      args, sums, rstd, args.dmean, args.drstd, group, InverseCount<C>(args, group));
  return Joined(shares, rstd);
}

}  // namespace cuda
}  // namespace fusednorm
