// What an instance of the kernels of `stream` knows when it is compiled. The plain
// instances: accesses of 16 bytes, centred, no residual, no mask, gamma and beta by
// place in the line or by run. Everything else goes through the general instance.
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
