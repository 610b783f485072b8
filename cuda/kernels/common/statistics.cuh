// From what was summed up over a group to the numbers that its elements need.
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

// What a group contributes to the gradient of its elements:
// dx = rstd * (dz * gamma - xhat * with_xhat) + added
template <class C>
struct GroupTerms {
  C with_xhat, added;
};
// From the group's sums of dz * gamma and of dz * gamma * xhat.
template <class C>
FUSEDNORM_DEVICE GroupTerms<C> TermsOfGroup(const BackwardArgs& args, C plain,
                                            C with_xhat, int64_t group, C rstd,
                                            C inverse_count) {
  const Correction<C> by = CorrectionOf<C>(args, plain, with_xhat, rstd, args.dmean,
                                           args.drstd, group, inverse_count);
  return {by.with_xhat, by.offset - rstd * by.plain};
}
template <class C>
FUSEDNORM_DEVICE GroupTerms<C> TermsOfGroup(const BackwardArgs& args, C plain,
                                            C with_xhat, int64_t group) {
  return TermsOfGroup(args, plain, with_xhat, group,
                      device::Load(static_cast<const C*>(args.rstd) + group),
                      InverseCount<C>(args, group));
}

}  // namespace cuda
}  // namespace fusednorm
