// What the second-order kernels share: the seven sums of a group over lanes and in
// memory, and the results of one access. core/second_order.h has the formulas.
//
// Each kernel exists twice. Without kGradient it leaves the sums of slices. With
// kGradient it adds them up, and writes d_dy, d_x and partial sums of d_gamma.
#pragma once

#include "core/first_order.h"
#include "core/second_order.h"
#include "cuda/kernels/common/affine.cuh"
#include "cuda/kernels/common/team.cuh"
#include "cuda/kernels/second_order/geometry.h"

namespace fusednorm {
namespace cuda {
namespace second_order {

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

// The index of a slice's partial sum in the workspace.
FUSEDNORM_DEVICE int64_t PartialAt(const SecondOrderGeometry& geometry, int64_t group,
                                   int64_t slice, int which) {
  return kSecondOrderSums * (group * geometry.slices.divisor() + slice) + which;
}

// Adds up the sums of a block's threads and stores them as those of a slice. Uses
// shared memory of kSecondOrderSums numbers for each warp, from its start.
template <class C>
FUSEDNORM_DEVICE void StoreSumsOfBlock(const SecondOrderArgs& args,
                                       const SecondOrderGeometry& geometry,
                                       SecondOrderSums<C> sums, int64_t group,
                                       int64_t slice) {
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
    device::Store(
        static_cast<C*>(args.partial) + PartialAt(geometry, group, slice, which), sum);
  }
  device::SyncBlock();  // the next sums use the same shared memory
}

// The shares of a group's elements. `lanes` neighbouring lanes add up the sums of the
// group's slices; this thread is lane number `lane` of them. All lanes of the warp must
// call. They pass valid = false where there is no group, and must not use the result
// then. (An early return took 15 registers more.) Exactly one of the threads that call
// for a group passes `stores`; it writes d_dmean and d_drstd.
template <class C>
FUSEDNORM_DEVICE SecondOrderShares<C> JoinShares(const SecondOrderArgs& args,
                                                 const SecondOrderGeometry& geometry,
                                                 int64_t group, bool valid, C rstd,
                                                 int lane, int lanes, bool stores) {
  SecondOrderSums<C> sums = {};
  const int64_t slices = valid ? geometry.slices.divisor() : 0;
  for (int64_t slice = lane; slice < slices; slice += lanes) {
    const C* partial =
        static_cast<const C*>(args.partial) + PartialAt(geometry, group, slice, 0);
#pragma unroll
    for (int s = 0; s < kSecondOrderSums; ++s) sums.at[s] += device::Load(partial + s);
  }
  LaneSums(&sums, lanes);
  const C drstd = args.drstd == nullptr || !valid
                      ? C(0)
                      : device::Load(static_cast<const C*>(args.drstd) + group);
  const SecondOrderShares<C> shares =
      SharesOf<C>(sums, static_cast<C>(args.inverse_count), args.centred, rstd, drstd);
  if (!valid || !stores) return shares;
  if (args.d_dmean != nullptr) {
    device::Store(static_cast<C*>(args.d_dmean) + group, shares.mean_u);
  }
  if (args.d_drstd != nullptr) {
    device::Store(static_cast<C*>(args.d_drstd) + group,
                  -rstd * rstd * shares.mean_u_xhat);
  }
  return shares;
}

// The numbers that go with an element.
template <class C>
struct Inputs {
  C mean, rstd, gamma, ddgamma, ddbeta;
  SecondOrderShares<C> shares;

  FUSEDNORM_DEVICE void SetStatistics(const SecondOrderArgs& args, int64_t group,
                                      bool valid) {
    mean = valid && args.centred
               ? device::Load(static_cast<const C*>(args.mean) + group)
               : C(0);
    rstd = valid ? device::Load(static_cast<const C*>(args.rstd) + group) : C(0);
  }
  template <class T>
  FUSEDNORM_DEVICE void SetParams(const SecondOrderArgs& args, int64_t param) {
    gamma = GammaAt<T>(args.affine, param);
    ddgamma = ParamOrZero<T>(args.ddgamma, args.affine.narrow, param);
    ddbeta = ParamOrZero<T>(args.ddbeta, args.affine.narrow, param);
  }
};

// dy, x and ddx of one access.
template <class T, int kWidth>
struct Access {
  typedef typename Number<T>::Compute C;
  C dy[kWidth], x[kWidth], u[kWidth];

  FUSEDNORM_DEVICE Access(const SecondOrderArgs& args, int64_t at) {
    typedef Pack<T, kWidth> P;
    const P dy_pack = P::LoadFrom(static_cast<const T*>(args.dy) + at);
    const P x_pack = P::LoadFrom(static_cast<const T*>(args.x) + at);
    const P u_pack = P::LoadFrom(static_cast<const T*>(args.ddx) + at);
    dy_pack.Get(dy);
    x_pack.Get(x);
    u_pack.Get(u);
  }
  // The terms that element `e` adds to the sums.
  FUSEDNORM_DEVICE SecondOrderSums<C> Terms(int e, const Inputs<C>& by) const {
    return SecondOrderTerms<C>(dy[e] * by.gamma, XhatOf(x[e], by.mean, by.rstd), u[e],
                               dy[e] * by.ddgamma);
  }
};

// Writes d_dy and d_x of an access. inputs_of(e) returns the inputs of element e.
// `terms` gets the terms of d_gamma.
template <class T, int kWidth, class InputsOf>
FUSEDNORM_DEVICE void WriteGradients(const SecondOrderArgs& args, int64_t at,
                                     const InputsOf& inputs_of,
                                     typename Number<T>::Compute (&terms)[kWidth]) {
  typedef typename Number<T>::Compute C;
  Access<T, kWidth> access(args, at);
#pragma unroll
  for (int e = 0; e < kWidth; ++e) {
    const Inputs<C> by = inputs_of(e);
    const C xhat = XhatOf(access.x[e], by.mean, by.rstd);
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

}  // namespace second_order
}  // namespace cuda
}  // namespace fusednorm
