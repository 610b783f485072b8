// What an instance of the kernels of `stream` knows at compile time. Plain instances
// have accesses of 16 bytes, are centred, have neither residual nor mask, and have
// gamma and beta by place in the line or by run. The general instance takes all other
// problems.
#pragma once

#include "cuda/kernels/common/args.h"
#include "cuda/kernels/common/device.cuh"
#include "cuda/kernels/stream/geometry.h"

namespace fusednorm {
namespace cuda {

template <bool general, bool wide>
struct StreamFeatures {
  static constexpr bool kGeneral = general;
  static constexpr bool kWide = wide;

  FUSEDNORM_DEVICE static bool Centred(const NormArgs& args) {
    return !general || args.centred;
  }
};

}  // namespace cuda
}  // namespace fusednorm
