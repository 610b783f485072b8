// From a plan of the `runs` scheme to its kernels.
#pragma once

#include "cuda/kernels/common/launch.cuh"
#include "cuda/kernels/kernels.h"
#include "cuda/kernels/runs/backward.cuh"

namespace fusednorm {
namespace cuda {
namespace runs {

template <class T>
Status Start(const BackwardArgs& args, const Plan& plan, Stream stream) {
  constexpr int kFull = kFullWidth<T>;
  const RunsGeometry& geometry = std::get<RunsGeometry>(plan.geometry);
  const bool wide = geometry.width > 1;
  if (geometry.resident) {
    FUSEDNORM_RETURN_IF_ERROR(
        device::Launch(wide ? RunsBackward<T, kFull, true> : RunsBackward<T, 1, true>,
                       plan.launches[0], stream, args));
    return plan.num_launches == 1 ? Status()
                                  : columns::Start<T>(args.params, plan, stream);
  }
  FUSEDNORM_RETURN_IF_ERROR(
      device::Launch(wide ? RunsBackward<T, kFull, false> : RunsBackward<T, 1, false>,
                     plan.launches[0], stream, args));
  if (plan.num_launches == 3) {
    FUSEDNORM_RETURN_IF_ERROR(mask::Start<T>(args, plan, stream));
  }
  return split_rows::Start<T>(args, plan, stream);
}

}  // namespace runs
}  // namespace cuda
}  // namespace fusednorm
