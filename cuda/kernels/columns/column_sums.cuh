// The second stage of dgamma and dbeta, which adds up partial sums in a fixed order. It
// is a kernel of its own, or the end of a scheme's last kernel.
#pragma once

#include "cuda/kernels/columns/geometry.h"
#include "cuda/kernels/common/args.h"
#include "cuda/kernels/common/device.cuh"
#include "cuda/kernels/common/number.cuh"

namespace fusednorm {
namespace cuda {

// Neighbouring lanes take neighbouring parameters; warps share the sets.
constexpr int kParamsOfBlock = device::kWarp;

// Does the part of one of `blocks` blocks. Uses shared memory of Threads() numbers,
// from `shared_offset` on. The partial sums may have been published in this launch.
template <class T>
FUSEDNORM_DEVICE void SumParam(const ParamSums& params, const void* partial, void* to,
                               int64_t block, int64_t blocks,
                               int64_t shared_offset = 0) {
  typedef typename Number<T>::Compute C;
  if (partial == nullptr || partial == to) return;
  const device::Shared<C> shared(shared_offset);
  const int lane = device::Thread() % kParamsOfBlock;
  const int warp = device::Thread() / kParamsOfBlock;
  const int warps = device::Threads() / kParamsOfBlock;
  const int64_t chunks = (params.params + kParamsOfBlock - 1) / kParamsOfBlock;
  const int64_t terms = params.sets * params.q.divisor();
  for (int64_t chunk = block; chunk < chunks; chunk += blocks) {
    const int64_t param = chunk * kParamsOfBlock + lane;
    C sum = 0;
    if (param < params.params) {
      const C* at = static_cast<const C*>(partial) + param * params.q.divisor();
      const int64_t row = params.params * params.q.divisor();
      if (params.q.divisor() == 1) {
#pragma unroll 4
        for (int64_t set = warp; set < params.sets; set += warps) {
          sum += device::Fetch(at + set * row);
        }
      } else {
        for (int64_t term = warp; term < terms; term += warps) {
          const int64_t set = params.q.Divide(term);
          sum += device::Fetch(at + set * row + (term - set * params.q.divisor()));
        }
      }
    }
    device::SyncBlock();  // the shared memory may still be in use
    shared.Set(device::Thread(), sum);
    device::SyncBlock();
    if (warp != 0 || param >= params.params) continue;
    for (int i = 1; i < warps; ++i) sum += shared.Get(i * kParamsOfBlock + lane);
    if (params.narrow) {
      device::Store(static_cast<T*>(to) + param, Number<T>::FromCompute(sum));
    } else {
      device::Store(static_cast<C*>(to) + param, sum);
    }
  }
}

template <class T>
FUSEDNORM_DEVICE void SumParams(const ParamSums& params) {
  SumParam<T>(params, params.gamma, params.dgamma, device::Block(), device::Blocks());
  SumParam<T>(params, params.beta, params.dbeta, device::Block(), device::Blocks());
}

// The second stage as a kernel. Where both dgamma and dbeta are wanted, half of the
// blocks take each.
template <class T>
FUSEDNORM_KERNEL(kColumnSumsThreads, 2)
ColumnSums(const ParamSums params) {
  if (params.gamma == nullptr || params.beta == nullptr) {
    SumParams<T>(params);
    return;
  }
  const int64_t half = (device::Blocks() + 1) / 2;
  if (device::Block() < half) {
    SumParam<T>(params, params.gamma, params.dgamma, device::Block(), half);
  } else {
    SumParam<T>(params, params.beta, params.dbeta, device::Block() - half,
                device::Blocks() - half);
  }
}

}  // namespace cuda
}  // namespace fusednorm
