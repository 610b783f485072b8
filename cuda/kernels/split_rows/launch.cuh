// From a plan of the `split_rows` scheme to its kernels.
#pragma once

#include "cuda/kernels/common/launch.cuh"
#include "cuda/kernels/kernels.h"
#include "cuda/kernels/split_rows/backward.cuh"
#include "cuda/kernels/split_rows/forward.cuh"

namespace fusednorm {
namespace cuda {
namespace split_rows {

template <class T>
Status Start(const ForwardArgs& args, const Plan& plan, Stream stream) {
  constexpr int kFull = kFullWidth<T>;
  const bool wide = std::get<SplitRowsGeometry>(plan.geometry).width > 1;
  FUSEDNORM_RETURN_IF_ERROR(
      device::Launch(wide ? SplitRowsMoments<T, kFull> : SplitRowsMoments<T, 1>,
                     plan.launches[0], stream, args));
  return device::Launch(wide ? SplitRowsNormalize<T, kFull> : SplitRowsNormalize<T, 1>,
                        plan.launches[1], stream, args);
}

template <class T>
Status Start(const BackwardArgs& args, const Plan& plan, Stream stream) {
  constexpr int kFull = kFullWidth<T>;
  constexpr int kColumns = ColumnVectors(sizeof(T), kFull);
  constexpr int kSingle = ColumnVectors(sizeof(T), 1);
  bool wide = false;
  if (const auto* runs = std::get_if<RunsGeometry>(&plan.geometry)) {
    wide = runs->width > 1;  // whose kernel has left the sums
  } else {
    wide = std::get<SplitRowsGeometry>(plan.geometry).width > 1;
    FUSEDNORM_RETURN_IF_ERROR(device::Launch(
        wide ? SplitRowsSums<T, kFull, kColumns> : SplitRowsSums<T, 1, kSingle>,
        plan.launches[0], stream, args));
    if (plan.num_launches == 3) {
      FUSEDNORM_RETURN_IF_ERROR(mask::Start<T>(args, plan, stream));
    }
  }
  return device::Launch(wide ? SplitRowsGradient<T, kFull> : SplitRowsGradient<T, 1>,
                        plan.launches[plan.num_launches - 1], stream, args);
}

}  // namespace split_rows
}  // namespace cuda
}  // namespace fusednorm
