// From a plan to the second-order kernels of one data type.
#pragma once

#include "cuda/kernels/common/launch.cuh"
#include "cuda/kernels/kernels.h"
#include "cuda/kernels/second_order/rows.cuh"
#include "cuda/kernels/second_order/runs.cuh"
#include "cuda/kernels/second_order/tiles.cuh"

namespace fusednorm {
namespace cuda {
namespace second_order {

using Kernel = void (*)(SecondOrderArgs, SecondOrderGeometry);

template <class T, int kWidth, bool kGradient>
Kernel KernelOf(const SecondOrderGeometry& geometry) {
  if (geometry.tiles) return SecondOrderTiles<T, kWidth, kGradient>;
  return geometry.runs ? SecondOrderRuns<T, kWidth, kGradient>
                       : SecondOrderRows<T, kWidth, kGradient>;
}

template <class T>
Status Start(const SecondOrderArgs& args, const Plan& plan, Stream stream) {
  constexpr int kFull = kFullWidth<T>;
  const auto& geometry = std::get<SecondOrderGeometry>(plan.geometry);
  const bool wide = geometry.width > 1;
  FUSEDNORM_RETURN_IF_ERROR(device::Launch(
      wide ? KernelOf<T, kFull, false>(geometry) : KernelOf<T, 1, false>(geometry),
      plan.launches[0], stream, args, geometry));
  FUSEDNORM_RETURN_IF_ERROR(device::Launch(
      wide ? KernelOf<T, kFull, true>(geometry) : KernelOf<T, 1, true>(geometry),
      plan.launches[1], stream, args, geometry));
  return plan.num_launches == 2 ? Status()
                                : columns::Start<T>(args.params, plan, stream);
}

}  // namespace second_order
}  // namespace cuda
}  // namespace fusednorm
