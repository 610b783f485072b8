// From a plan to the second-order kernels of one data type.
#pragma once

#include "cuda/kernels/common/launch.cuh"
#include "cuda/kernels/kernels.h"
#include "cuda/kernels/second_order/rows.cuh"
#include "cuda/kernels/second_order/runs.cuh"
#include "cuda/kernels/second_order/tile.cuh"

namespace fusednorm {
namespace cuda {
namespace second_order {

using Kernel = void (*)(SecondOrderArgs);

template <class T>
Status Start(const SecondOrderArgs& args, const Plan& plan, Stream stream) {
  constexpr int kFull = kFullWidth<T>;
  Kernel sums = nullptr, gradient = nullptr;
  if (const auto* rows = std::get_if<SplitRowsGeometry>(&plan.geometry)) {
    const bool wide = rows->width > 1;
    sums = wide ? SecondOrderRowSums<T, kFull> : SecondOrderRowSums<T, 1>;
    gradient = wide ? SecondOrderRowGradient<T, kFull> : SecondOrderRowGradient<T, 1>;
  } else if (const auto* runs = std::get_if<RunsGeometry>(&plan.geometry)) {
    const bool wide = runs->width > 1;
    sums = wide ? SecondOrderRuns<T, kFull, false> : SecondOrderRuns<T, 1, false>;
    gradient = wide ? SecondOrderRuns<T, kFull, true> : SecondOrderRuns<T, 1, true>;
  } else if (const auto* tiles = std::get_if<TileGeometry>(&plan.geometry)) {
    const bool wide = tiles->width > 1;
    sums = wide ? SecondOrderTileSums<T, kFull> : SecondOrderTileSums<T, 1>;
    gradient = wide ? SecondOrderTileGradient<T, kFull> : SecondOrderTileGradient<T, 1>;
  } else {
    return Status::Internal(std::string("no second-order kernel for the plan ") +
                            Name(plan.geometry));
  }
  FUSEDNORM_RETURN_IF_ERROR(device::Launch(sums, plan.launches[0], stream, args));
  FUSEDNORM_RETURN_IF_ERROR(device::Launch(gradient, plan.launches[1], stream, args));
  return plan.num_launches == 2 ? Status()
                                : columns::Start<T>(args.params, plan, stream);
}

}  // namespace second_order
}  // namespace cuda
}  // namespace fusednorm
