// From a plan to the backward kernels of one data type: nothing is decided here.
#pragma once

#include "cuda/block_rows.cuh"
#include "cuda/launch.cuh"
#include "cuda/mask.cuh"
#include "cuda/param_sums.cuh"
#include "cuda/plan_rows.h"
#include "cuda/runs.cuh"
#include "cuda/shared_rows.cuh"
#include "cuda/split_rows_backward.cuh"
#include "cuda/tile_backward.cuh"
#include "cuda/warp_rows.cuh"

namespace fusednorm {
namespace cuda {

using BackwardKernel = void (*)(BackwardArgs);

template <class T>
Status BackwardOf(const BackwardArgs& args, const Plan& plan, Stream stream) {
  constexpr int kFull = kFullWidth<T>;
  constexpr int kColumns = ColumnVectors(sizeof(T), kFull);
  constexpr int kSingle = ColumnVectors(sizeof(T), 1);
  const bool wide = plan.width > 1;
  BackwardKernel first = nullptr, second = nullptr;
  switch (plan.variant) {
    case Variant::kWarpRows:
      if (wide) {
        first = plan.vectors == 1 ? WarpRowsBackward<T, kFull, 1>
                                  : WarpRowsBackward<T, kFull, kColumns>;
      } else {
        first = plan.vectors == kFewScalars ? WarpRowsBackward<T, 1, kFewScalars>
                                            : WarpRowsBackward<T, 1, kSingle>;
      }
      break;
    case Variant::kBlockRows:
      first = wide ? BlockRowsBackward<T, kFull, kColumns>
                   : BlockRowsBackward<T, 1, kSingle>;
      break;
    case Variant::kSharedRows:
      first = wide ? SharedRowsBackward<T, kFull, SharedColumnVectors(sizeof(T), kFull)>
                   : SharedRowsBackward<T, 1, SharedColumnVectors(sizeof(T), 1)>;
      break;
    case Variant::kSplitRows:
      first = wide ? SplitRowsSums<T, kFull, kColumns> : SplitRowsSums<T, 1, kSingle>;
      second = wide ? SplitRowsGradient<T, kFull> : SplitRowsGradient<T, 1>;
      break;
    case Variant::kRuns:
      first = wide ? RunsBackward<T, kFull, true> : RunsBackward<T, 1, true>;
      break;
    case Variant::kSplitRuns:
      first = wide ? RunsBackward<T, kFull, false> : RunsBackward<T, 1, false>;
      second = wide ? SplitRowsGradient<T, kFull> : SplitRowsGradient<T, 1>;
      break;
    case Variant::kTile:
      first = wide ? TileBackward<T, kFull, true> : TileBackward<T, 1, true>;
      break;
    case Variant::kSplitTile:
      first = wide ? TileBackward<T, kFull, false> : TileBackward<T, 1, false>;
      second = wide ? SplitTileGradient<T, kFull> : SplitTileGradient<T, 1>;
      break;
    case Variant::kEmpty:
      return Status::Internal("no backward kernel for an empty problem");
  }
  FUSEDNORM_RETURN_IF_ERROR(device::Launch(first, plan.launches[0], stream, args));
  if (plan.num_launches == 1) return Status();
  if (second == nullptr) {
    return device::Launch(SumParamsKernel<T>, plan.launches[1], stream, args.params);
  }
  if (plan.num_launches == 3) {
    FUSEDNORM_RETURN_IF_ERROR(
        device::Launch(CountMask<T>, plan.launches[1], stream, args));
  }
  return device::Launch(second, plan.launches[plan.num_launches - 1], stream, args);
}

}  // namespace cuda
}  // namespace fusednorm
