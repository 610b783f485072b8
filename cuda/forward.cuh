// From a plan to the forward kernels of one data type: nothing is decided here.
#pragma once

#include "cuda/block_rows.cuh"
#include "cuda/launch.cuh"
#include "cuda/plan_rows.h"
#include "cuda/shared_rows.cuh"
#include "cuda/split_rows_forward.cuh"
#include "cuda/split_tile_forward.cuh"
#include "cuda/tile_forward.cuh"
#include "cuda/warp_rows.cuh"

namespace fusednorm {
namespace cuda {

using ForwardKernel = void (*)(ForwardArgs);

template <class T>
ForwardKernel WarpRowsForwardOf(int width, int vectors) {
  constexpr int kFull = kFullWidth<T>;
  if (width == 1) {
    return vectors == kFewScalars ? WarpRowsForward<T, 1, kFewScalars>
                                  : WarpRowsForward<T, 1, kManyScalars>;
  }
  return vectors == 1   ? WarpRowsForward<T, kFull, 1>
         : vectors == 2 ? WarpRowsForward<T, kFull, 2>
         : vectors == 4 ? WarpRowsForward<T, kFull, 4>
                        : WarpRowsForward<T, kFull, kWarpVectors>;
}

template <class T>
Status ForwardOf(const ForwardArgs& args, const Plan& plan, Stream stream) {
  constexpr int kFull = kFullWidth<T>;
  const bool wide = plan.width > 1;
  ForwardKernel first = nullptr, second = nullptr;
  switch (plan.variant) {
    case Variant::kWarpRows:
      first = WarpRowsForwardOf<T>(plan.width, plan.vectors);
      break;
    case Variant::kBlockRows:
      first = wide ? BlockRowsForward<T, kFull, kBlockVectors>
                   : BlockRowsForward<T, 1, kManyScalars>;
      break;
    case Variant::kSharedRows:
      first = wide ? SharedRowsForward<T, kFull> : SharedRowsForward<T, 1>;
      break;
    case Variant::kSplitRows:
      first = wide ? SplitRowsMoments<T, kFull> : SplitRowsMoments<T, 1>;
      second = wide ? SplitRowsNormalize<T, kFull> : SplitRowsNormalize<T, 1>;
      break;
    case Variant::kTile:
      first = wide ? TileForward<T, kFull> : TileForward<T, 1>;
      break;
    case Variant::kSplitTile:
      first = wide ? SplitTileMoments<T, kFull> : SplitTileMoments<T, 1>;
      second = wide ? SplitTileNormalize<T, kFull> : SplitTileNormalize<T, 1>;
      break;
    default:
      return Status::Internal(std::string("no forward kernel for the plan ") +
                              Name(plan.variant));
  }
  FUSEDNORM_RETURN_IF_ERROR(device::Launch(first, plan.launches[0], stream, args));
  if (second == nullptr) return Status();
  return device::Launch(second, plan.launches[1], stream, args);
}

}  // namespace cuda
}  // namespace fusednorm
