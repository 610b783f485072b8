// From a plan of the `tile` scheme to its kernels.
#pragma once

#include "cuda/kernels/common/launch.cuh"
#include "cuda/kernels/kernels.h"
#include "cuda/kernels/tile/backward.cuh"
#include "cuda/kernels/tile/forward.cuh"

namespace fusednorm {
namespace cuda {
namespace tile {

static_assert(kTileVectors[0] == 2 && kTileVectors[1] == 4, "the instances below");

template <class T>
Status Start(const ForwardArgs& args, const Plan& plan, Stream stream) {
  const TileGeometry& geometry = std::get<TileGeometry>(plan.geometry);
  const auto kernel =
      geometry.lines.columns  ? geometry.width > 1
                                    ? TileForward<T, 2, TileFeatures<true, true>>
                                    : TileForward<T, 2, TileFeatures<true, false>>
      : geometry.vectors == 2 ? TileForward<T, 2, TileFeatures<false, true>>
                              : TileForward<T, 4, TileFeatures<false, true>>;
  return device::Launch(kernel, plan.launches[0], stream, args, geometry);
}

template <class T>
Status Start(const BackwardArgs& args, const Plan& plan, Stream stream) {
  const TileGeometry& geometry = std::get<TileGeometry>(plan.geometry);
  const auto kernel =
      geometry.lines.columns  ? geometry.width > 1
                                    ? TileBackward<T, 2, TileFeatures<true, true>>
                                    : TileBackward<T, 2, TileFeatures<true, false>>
      : geometry.vectors == 2 ? TileBackward<T, 2, TileFeatures<false, true>>
                              : TileBackward<T, 4, TileFeatures<false, true>>;
  FUSEDNORM_RETURN_IF_ERROR(
      device::Launch(kernel, plan.launches[0], stream, args, geometry));
  return plan.sets == 0 ? Status() : columns::Start<T>(args.params, plan, stream);
}

}  // namespace tile
}  // namespace cuda
}  // namespace fusednorm
