// From a plan of the `tile` scheme to its kernels.
#pragma once

#include "cuda/kernels/common/launch.cuh"
#include "cuda/kernels/kernels.h"
#include "cuda/kernels/tile/backward.cuh"
#include "cuda/kernels/tile/forward.cuh"
#include "cuda/kernels/tile/split_forward.cuh"

namespace fusednorm {
namespace cuda {
namespace tile {

template <class T>
Status Start(const ForwardArgs& args, const Plan& plan, Stream stream) {
  constexpr int kFull = kFullWidth<T>;
  const TileGeometry& geometry = std::get<TileGeometry>(plan.geometry);
  const bool wide = geometry.width > 1;
  if (geometry.resident) {
    return device::Launch(wide ? TileForward<T, kFull> : TileForward<T, 1>,
                          plan.launches[0], stream, args);
  }
  FUSEDNORM_RETURN_IF_ERROR(
      device::Launch(wide ? SplitTileMoments<T, kFull> : SplitTileMoments<T, 1>,
                     plan.launches[0], stream, args));
  return device::Launch(wide ? SplitTileNormalize<T, kFull> : SplitTileNormalize<T, 1>,
                        plan.launches[1], stream, args);
}

template <class T>
Status Start(const BackwardArgs& args, const Plan& plan, Stream stream) {
  constexpr int kFull = kFullWidth<T>;
  const TileGeometry& geometry = std::get<TileGeometry>(plan.geometry);
  const bool wide = geometry.width > 1;
  if (geometry.resident) {
    FUSEDNORM_RETURN_IF_ERROR(
        device::Launch(wide ? TileBackward<T, kFull, true> : TileBackward<T, 1, true>,
                       plan.launches[0], stream, args));
    return plan.num_launches == 1 ? Status()
                                  : columns::Start<T>(args.params, plan, stream);
  }
  FUSEDNORM_RETURN_IF_ERROR(
      device::Launch(wide ? TileBackward<T, kFull, false> : TileBackward<T, 1, false>,
                     plan.launches[0], stream, args));
  if (plan.num_launches == 3) {
    FUSEDNORM_RETURN_IF_ERROR(mask::Start<T>(args, plan, stream));
  }
  return device::Launch(wide ? SplitTileGradient<T, kFull> : SplitTileGradient<T, 1>,
                        plan.launches[plan.num_launches - 1], stream, args);
}

}  // namespace tile
}  // namespace cuda
}  // namespace fusednorm
