// From a plan of the `stream` scheme to its kernels.
#pragma once

#include "cuda/kernels/common/launch.cuh"
#include "cuda/kernels/kernels.h"
#include "cuda/kernels/stream/lines_backward.cuh"
#include "cuda/kernels/stream/lines_forward.cuh"
#include "cuda/kernels/stream/runs_backward.cuh"
#include "cuda/kernels/stream/runs_forward.cuh"

namespace fusednorm {
namespace cuda {
namespace stream {

template <class T, class Features>
Status StartInstance(const ForwardArgs& args, const StreamGeometry& geometry,
                     const Launch& launch, Stream stream) {
  if (geometry.by_runs) {
    return device::Launch(StreamRunsForward<T, Features>, launch, stream, args,
                          geometry.run_stream);
  }
  return device::Launch(StreamLinesForward<T, Features>, launch, stream, args,
                        geometry.lines, geometry.line_stream);
}
template <class T, class Features>
Status StartInstance(const BackwardArgs& args, const StreamGeometry& geometry,
                     const Launch& launch, Stream stream) {
  if (geometry.by_runs) {
    return device::Launch(StreamRunsBackward<T, Features>, launch, stream, args,
                          geometry.run_stream);
  }
  return device::Launch(StreamLinesBackward<T, Features>, launch, stream, args,
                        geometry.lines, geometry.line_stream);
}

// Starts the last launch of the plan, whose counters are zero by then.
template <class T, class Args>
Status StartPass(const Args& args, const Plan& plan, Stream stream) {
  const StreamGeometry& geometry = std::get<StreamGeometry>(plan.geometry);
  FUSEDNORM_RETURN_IF_ERROR(
      device::FillBytes(args.partial, 0, geometry.order().counter_bytes, stream));
  const Launch& launch = plan.launches[plan.num_launches - 1];
  if constexpr (!std::is_same_v<T, double>) {  // double has no plain instance
    if (!geometry.general) {
      return StartInstance<T, StreamFeatures<false, true>>(args, geometry, launch,
                                                           stream);
    }
  }
  return geometry.width > 1 ? StartInstance<T, StreamFeatures<true, true>>(
                                  args, geometry, launch, stream)
                            : StartInstance<T, StreamFeatures<true, false>>(
                                  args, geometry, launch, stream);
}

template <class T>
Status Start(const ForwardArgs& args, const Plan& plan, Stream stream) {
  return StartPass<T>(args, plan, stream);
}
template <class T>
Status Start(const BackwardArgs& args, const Plan& plan, Stream stream) {
  if (args.mask.positions != nullptr) {
    FUSEDNORM_RETURN_IF_ERROR(mask::Start<T>(args, plan, stream));
  }
  return StartPass<T>(args, plan, stream);
}

}  // namespace stream
}  // namespace cuda
}  // namespace fusednorm
