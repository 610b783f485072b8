// mean and rstd between the blocks of one launch.
#pragma once

#include "cuda/kernels/columns/column_sums.cuh"
#include "cuda/kernels/common/moments.cuh"
#include "cuda/kernels/common/statistics.cuh"
#include "cuda/kernels/stream/order.h"

namespace fusednorm {
namespace cuda {

template <class C>
FUSEDNORM_DEVICE void PublishStatistics(const ForwardArgs& args,
                                        const Moments<C>& joined, int64_t group) {
  const Statistics<C> statistics = StatisticsOf(args, joined);
  if (args.centred) {
    device::Publish(static_cast<C*>(args.mean) + group, statistics.mean);
  }
  device::Publish(static_cast<C*>(args.rstd) + group, statistics.rstd);
}

template <class C>
FUSEDNORM_DEVICE GroupTerms<C> FetchTerms(const C* terms, int64_t group) {
  return {device::Fetch(terms + 2 * group), device::Fetch(terms + 2 * group + 1)};
}
// From the group's sums of dz * gamma and of dz * gamma * xhat.
template <class C>
FUSEDNORM_DEVICE void PublishTerms(const BackwardArgs& args, C plain, C with_xhat,
                                   int64_t group, C* terms) {
  const GroupTerms<C> of = TermsOfGroup(args, plain, with_xhat, group);
  device::Publish(terms + 2 * group, of.with_xhat);
  device::Publish(terms + 2 * group + 1, of.added);
}

// The slabs' sums, after the counters of the workspace.
template <class Args>
FUSEDNORM_DEVICE char* SlabSums(const Args& args, const StreamOrder& order) {
  return static_cast<char*>(args.partial) + order.counter_bytes;
}
// The groups' terms.
template <class C>
FUSEDNORM_DEVICE C* TermsOf(const BackwardArgs& args, const StreamOrder& order) {
  return reinterpret_cast<C*>(static_cast<char*>(args.partial) + order.terms_offset);
}

// dgamma and dbeta, item number `item` of them.
template <class T>
FUSEDNORM_DEVICE void SumParamsOfItem(const ParamSums& params, const StreamOrder& order,
                                      const Item& item) {
  SumParam<T>(params, params.gamma, params.dgamma, item.slab, order.params,
              kQueueBytes);
  SumParam<T>(params, params.beta, params.dbeta, item.slab, order.params, kQueueBytes);
}

}  // namespace cuda
}  // namespace fusednorm
