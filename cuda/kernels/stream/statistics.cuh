// The statistics and the shares of groups, which blocks of one launch exchange.
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
FUSEDNORM_DEVICE JoinedShares<C> FetchShares(const C* shares, int64_t group) {
  return {device::Fetch(shares + 2 * group), device::Fetch(shares + 2 * group + 1)};
}
template <class C>
FUSEDNORM_DEVICE void PublishShares(const BackwardArgs& args,
                                    const FirstOrderSums<C>& sums, int64_t group,
                                    C* shares) {
  const JoinedShares<C> of = JoinedSharesOfGroup(args, sums, group);
  device::Publish(shares + 2 * group, of.with_xhat);
  device::Publish(shares + 2 * group + 1, of.added);
}

// The sums of all slabs, which follow the counters in the workspace.
template <class Args>
FUSEDNORM_DEVICE char* SlabSums(const Args& args, const StreamOrder& order) {
  return static_cast<char*>(args.partial) + order.counter_bytes;
}
// The JoinedShares of all groups in the workspace.
template <class C>
FUSEDNORM_DEVICE C* SharesIn(const BackwardArgs& args, const StreamOrder& order) {
  return reinterpret_cast<C*>(static_cast<char*>(args.partial) + order.shares_offset);
}

// Adds up item number `item` of dgamma and dbeta.
template <class T>
FUSEDNORM_DEVICE void SumParamsOfItem(const ParamSums& params, const StreamOrder& order,
                                      const Item& item) {
  SumParam<T>(params, params.gamma, params.dgamma, item.slab, order.params,
              kQueueBytes);
  SumParam<T>(params, params.beta, params.dbeta, item.slab, order.params, kQueueBytes);
}

}  // namespace cuda
}  // namespace fusednorm
