// From a plan to the second-order kernels of one data type: nothing is decided here.
#pragma once

#include "cuda/launch.cuh"
#include "cuda/param_sums.cuh"
#include "cuda/second_order_rows.cuh"
#include "cuda/second_order_runs.cuh"
#include "cuda/second_order_tile.cuh"

namespace fusednorm {
namespace cuda {

using SecondOrderKernel = void (*)(SecondOrderArgs);

template <class T>
Status SecondOrderOf(const SecondOrderArgs& args, const Plan& plan, Stream stream) {
  constexpr int kFull = kFullWidth<T>;
  const bool wide = plan.width > 1;
  SecondOrderKernel sums = nullptr, gradient = nullptr;
  switch (plan.variant) {
    case Variant::kSplitRows:
      sums = wide ? SecondOrderRowSums<T, kFull> : SecondOrderRowSums<T, 1>;
      gradient = wide ? SecondOrderRowGradient<T, kFull> : SecondOrderRowGradient<T, 1>;
      break;
    case Variant::kSplitRuns:
      sums = wide ? SecondOrderRuns<T, kFull, false> : SecondOrderRuns<T, 1, false>;
      gradient = wide ? SecondOrderRuns<T, kFull, true> : SecondOrderRuns<T, 1, true>;
      break;
    case Variant::kSplitTile:
      sums = wide ? SecondOrderTileSums<T, kFull> : SecondOrderTileSums<T, 1>;
      gradient =
          wide ? SecondOrderTileGradient<T, kFull> : SecondOrderTileGradient<T, 1>;
      break;
    default:
      return Status::Internal(std::string("no second-order kernel for the plan ") +
                              Name(plan.variant));
  }
  FUSEDNORM_RETURN_IF_ERROR(device::Launch(sums, plan.launches[0], stream, args));
  FUSEDNORM_RETURN_IF_ERROR(device::Launch(gradient, plan.launches[1], stream, args));
  if (plan.num_launches == 2) return Status();
  return device::Launch(SumParamsKernel<T>, plan.launches[2], stream, args.params);
}

}  // namespace cuda
}  // namespace fusednorm
