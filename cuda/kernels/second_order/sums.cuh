// What the second-order kernels share: a group's seven sums over lanes and in memory,
// and the results of one access. The formula is core/second_order.h's.
//
// There are always two kernels: the first leaves the sums of slices behind, the second
// adds them up and reads dy, x and ddx again.
#pragma once

#include "core/second_order.h"
#include "cuda/kernels/common/affine.cuh"
#include "cuda/kernels/common/team.cuh"

namespace fusednorm {
namespace cuda {

template <class C>
FUSEDNORM_DEVICE void Add(const SecondOrderSums<C>& more, SecondOrderSums<C>* sums) {
#pragma unroll
  for (int s = 0; s < kSecondOrderSums; ++s) sums->at[s] += more.at[s];
}

template <class C>
FUSEDNORM_DEVICE void LaneSums(SecondOrderSums<C>* sums, int lanes) {
#pragma unroll
  for (int s = 0; s < kSecondOrderSums; ++s) sums->at[s] = LaneSum(sums->at[s], lanes);
}

template <class C>
FUSEDNORM_DEVICE SecondOrderSums<C> LoadSecondOrderSums(const void* partial,
                                                        int64_t i) {
  SecondOrderSums<C> sums;
#pragma unroll
  for (int s = 0; s < kSecondOrderSums; ++s) {
    sums.at[s] =
        device::Load(static_cast<const C*>(partial) + kSecondOrderSums * i + s);
  }
  return sums;
}
template <class C>
FUSEDNORM_DEVICE void StoreSecondOrderSum(void* partial, int64_t i, int which, C sum) {
  device::Store(static_cast<C*>(partial) + kSecondOrderSums * i + which, sum);
}

// Leaves the sums of a block's threads as partial sum `i`. Uses shared memory of
// kSecondOrderSums numbers a warp, from its start.
template <class C>
FUSEDNORM_DEVICE void StoreSumsOfBlock(SecondOrderSums<C> sums, void* partial,
                                       int64_t i) {
  const device::Shared<C> shared(0);
  const int lane = device::Thread() % device::kWarp;
  const int warp = device::Thread() / device::kWarp;
  LaneSums(&sums, device::kWarp);
  if (lane == 0) {
#pragma unroll
    for (int s = 0; s < kSecondOrderSums; ++s) {
      shared.Set(kSecondOrderSums * warp + s, sums.at[s]);
    }
  }
  device::SyncBlock();
  const int which = device::Thread();
  if (which < kSecondOrderSums) {
    C sum = 0;
    for (int w = 0; w < device::Threads() / device::kWarp; ++w) {
      sum += shared.Get(kSecondOrderSums * w + which);
    }
    StoreSecondOrderSum(partial, i, which, sum);
  }
  device::SyncBlock();  // before the next sums
}

// Adds up the `count` partial sums of a group, from the first one on, over `lanes`
// neighbouring lanes of which this is number `lane`. All lanes of the warp call.
template <class C>
FUSEDNORM_DEVICE SecondOrderSums<C> JoinSums(const void* partial, int64_t first,
                                             int64_t count, int lane, int lanes) {
  SecondOrderSums<C> sums = {};
  for (int64_t i = lane; i < count; i += lanes) {
    Add(LoadSecondOrderSums<C>(partial, first + i), &sums);
  }
  LaneSums(&sums, lanes);
  return sums;
}

template <class C>
FUSEDNORM_DEVICE SecondOrderShares<C> SharesOfGroup(const SecondOrderArgs& args,
                                                    const SecondOrderSums<C>& sums,
                                                    C rstd, int64_t group) {
  const C drstd = args.drstd == nullptr
                      ? C(0)
                      : device::Load(static_cast<const C*>(args.drstd) + group);
  return SharesOf<C>(sums, static_cast<C>(args.inverse_count), args.centred, rstd,
                     drstd);
}

// What the group's sums are the gradients of. One thread a group calls.
template <class C>
FUSEDNORM_DEVICE void StoreStatisticGradients(const SecondOrderArgs& args,
                                              const SecondOrderShares<C>& shares,
                                              C rstd, int64_t group) {
  if (args.d_dmean != nullptr) {
    device::Store(static_cast<C*>(args.d_dmean) + group, shares.mean_u);
  }
  if (args.d_drstd != nullptr) {
    device::Store(static_cast<C*>(args.d_drstd) + group,
                  -rstd * rstd * shares.mean_u_xhat);
  }
}

// dy, x and ddx of one access.
template <class T, int kWidth>
struct SecondOrderAccess {
  typedef typename Number<T>::Compute C;
  C dy[kWidth], x[kWidth], u[kWidth];

  FUSEDNORM_DEVICE SecondOrderAccess(const SecondOrderArgs& args, int64_t at) {
    typedef Pack<T, kWidth> P;
    const P dy_pack = P::LoadFrom(static_cast<const T*>(args.dy) + at);
    const P x_pack = P::LoadFrom(static_cast<const T*>(args.x) + at);
    const P u_pack = P::LoadFrom(static_cast<const T*>(args.ddx) + at);
    dy_pack.Get(dy);
    x_pack.Get(x);
    u_pack.Get(u);
  }
};

// What goes with an element.
template <class C>
struct SecondOrderInputs {
  C mean, rstd, gamma, ddgamma, ddbeta;
  SecondOrderShares<C> shares;
};

// Writes d_dy and d_x of an access, whose element e has inputs_of(e). `terms` are those
// of d_gamma.
template <class T, int kWidth, class InputsOf>
FUSEDNORM_DEVICE void WriteSecondOrder(const SecondOrderArgs& args, int64_t at,
                                       const InputsOf& inputs_of,
                                       typename Number<T>::Compute (&terms)[kWidth]) {
  typedef typename Number<T>::Compute C;
  SecondOrderAccess<T, kWidth> access(args, at);
#pragma unroll
  for (int e = 0; e < kWidth; ++e) {
    const SecondOrderInputs<C> by = inputs_of(e);
    const C xhat = (access.x[e] - by.mean) * by.rstd;
    const SecondOrderValues<C> values =
        SecondOrderOf<C>(access.dy[e], xhat, access.u[e], by.rstd, by.gamma, by.ddgamma,
                         by.ddbeta, by.shares);
    terms[e] = access.dy[e] * values.p;
    access.dy[e] = values.d_dy;
    access.x[e] = values.d_x;
  }
  Pack<T, kWidth>::Of(access.dy).StoreTo(static_cast<T*>(args.d_dy) + at, args.stream);
  Pack<T, kWidth>::Of(access.x).StoreTo(static_cast<T*>(args.d_x) + at, args.stream);
}

}  // namespace cuda
}  // namespace fusednorm
