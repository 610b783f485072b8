// dgamma and dbeta of the columns of one thread, which stays with the same columns: it
// keeps the sums over all its rows in registers.
#pragma once

#include "cuda/kernels/common/affine.cuh"
#include "cuda/kernels/common/args.h"
#include "cuda/kernels/common/device.cuh"

namespace fusednorm {
namespace cuda {

// kBeta: there is a dbeta. Without it, no register holds one.
template <class C, int kVectors, int kWidth, bool kBeta = true>
struct ThreadColumns {
  C gamma[kVectors][kWidth];
  C beta[kBeta ? kVectors : 1][kBeta ? kWidth : 1];

  FUSEDNORM_DEVICE void Clear() {
#pragma unroll
    for (int j = 0; j < kVectors; ++j) {
#pragma unroll
      for (int e = 0; e < kWidth; ++e) {
        gamma[j][e] = 0;
        if constexpr (kBeta) beta[j][e] = 0;
      }
    }
  }

  FUSEDNORM_DEVICE void Add(int j, int e, C dz, C xhat) {
    const FirstOrderSums<C> terms = FirstOrderTerms(dz, xhat);
    gamma[j][e] += terms.with_xhat;
    if constexpr (kBeta) beta[j][e] += terms.plain;
  }

  // Writes the sums as set number `set` of the partial sums. A set has `row`
  // parameters, of which the thread's row has those from `first` on.
  template <class T, class Access>
  FUSEDNORM_DEVICE void Write(const ParamSums& params, int64_t set, int64_t row,
                              int64_t first, const Access& access) const {
#pragma unroll
    for (int j = 0; j < kVectors; ++j) {
      if (!access.Has(j)) continue;
      const int64_t at = set * row + first + access.At(j);
      if (params.gamma != nullptr) {
        StoreParams<T, kWidth>(params.gamma, false, at, gamma[j], false);
      }
      if constexpr (kBeta) {
        if (params.beta == nullptr) continue;
        StoreParams<T, kWidth>(params.beta, false, at, beta[j], false);
      }
    }
  }

  // Adds up the sums of a block's teams, then writes them. Teams of one warp are added
  // by shuffles, then the warps in their order through shared memory of 2 * length
  // numbers.
  template <class Access>
  FUSEDNORM_DEVICE void WriteOfBlock(const ParamSums& params, int length,
                                     const Access& access) {
    for (int mask = access.size; mask < device::kWarp; mask *= 2) {
#pragma unroll
      for (int j = 0; j < kVectors; ++j) {
#pragma unroll
        for (int e = 0; e < kWidth; ++e) {
          gamma[j][e] += device::ShuffleXor(gamma[j][e], mask);
          if constexpr (kBeta) beta[j][e] += device::ShuffleXor(beta[j][e], mask);
        }
      }
    }
    const device::Shared<C> shared(0);
    const int warp = device::Thread() / device::kWarp;
    const int lane = device::Thread() % device::kWarp;
    for (int turn = 0; turn < device::Threads() / device::kWarp; ++turn) {
      if (warp == turn && lane < access.size) {
#pragma unroll
        for (int j = 0; j < kVectors; ++j) {
#pragma unroll
          for (int e = 0; e < kWidth; ++e) {
            const int i = access.At(j) + e;
            if (i >= length) continue;
            shared.Set(i, gamma[j][e] + (turn == 0 ? C(0) : shared.Get(i)));
            if constexpr (kBeta) {
              shared.Set(length + i,
                         beta[j][e] + (turn == 0 ? C(0) : shared.Get(length + i)));
            }
          }
        }
      }
      device::SyncBlock();
    }
    for (int i = device::Thread(); i < length; i += device::Threads()) {
      const int64_t at = device::Block() * length + i;
      if (params.gamma != nullptr) {
        device::Store(static_cast<C*>(params.gamma) + at, shared.Get(i));
      }
      if constexpr (kBeta) {
        if (params.beta == nullptr) continue;
        device::Store(static_cast<C*>(params.beta) + at, shared.Get(length + i));
      }
    }
  }
};

}  // namespace cuda
}  // namespace fusednorm
