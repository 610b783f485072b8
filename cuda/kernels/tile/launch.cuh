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

template <class T, int kVectors, class Features>
auto KernelOf(const ForwardArgs&) {
  return TileForward<T, kVectors, Features>;
}
template <class T, int kVectors, class Features>
auto KernelOf(const BackwardArgs&) {
  return TileBackward<T, kVectors, Features>;
}

template <class T, class Args>
Status StartKernel(const Args& args, const Plan& plan, Stream stream) {
  const TileGeometry& geometry = std::get<TileGeometry>(plan.geometry);
  const auto kernel =
      geometry.lines.columns  ? geometry.width > 1
                                    ? KernelOf<T, 2, TileFeatures<true, true>>(args)
                                    : KernelOf<T, 2, TileFeatures<true, false>>(args)
      : geometry.vectors == 2 ? KernelOf<T, 2, TileFeatures<false, true>>(args)
                              : KernelOf<T, 4, TileFeatures<false, true>>(args);
  return device::Launch(kernel, plan.launches[0], stream, args, geometry);
}

template <class T>
Status Start(const ForwardArgs& args, const Plan& plan, Stream stream) {
  return StartKernel<T>(args, plan, stream);
}
template <class T>
Status Start(const BackwardArgs& args, const Plan& plan, Stream stream) {
  FUSEDNORM_RETURN_IF_ERROR(StartKernel<T>(args, plan, stream));
  return plan.sets == 0 ? Status() : columns::Start<T>(args.params, plan, stream);
}

}  // namespace tile
}  // namespace cuda
}  // namespace fusednorm
