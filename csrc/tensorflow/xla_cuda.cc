// The custom calls on CUDA devices.
#if defined(FUSEDNORM_WITH_CUDA)

#include <cuda_runtime.h>

#include <cstdint>
#include <memory>
#include <string>

#include "cuda/api/enqueue.h"
#include "tensorflow/xla_handler.h"
#include "tensorflow/xla_workspace.h"

namespace fusednorm {
namespace {

// What plans count on, and more than XLA promises.
constexpr int64_t kWorkspaceAlignment = 256;

template <class Buffers>
Status Run(cudaStream_t stream, int32_t device, const ffi::Dictionary& attributes,
           const ffi::RemainingArgs& inputs, const ffi::RemainingRets& outputs) {
  NormProblem problem;
  Buffers buffers;
  size_t num_outputs = 0;
  FUSEDNORM_RETURN_IF_ERROR(
      Decode(attributes, inputs, outputs, &problem, &buffers, &num_outputs));
  const auto find_workspace = [&](int64_t bytes, void** data) {
    auto workspace = outputs.get<ffi::AnyBuffer>(num_outputs);
    size_t there = 0;
    if (workspace.has_value()) {
      there = (*workspace)->size_bytes();
      *data = (*workspace)->untyped_data();
    }
    const bool fits = std::align(kWorkspaceAlignment, bytes, *data, there) != nullptr;
    return fits ? Status()
                : Status::Internal("custom call: a workspace of " +
                                   std::to_string(bytes) +
                                   " bytes is needed here, more than on the devices "
                                   "that it was compiled for");
  };
  cuda::ScopedDevice current;
  FUSEDNORM_RETURN_IF_ERROR(current.Enter(device));
  return cuda::Enqueue(problem, buffers, find_workspace, stream);
}

template <class Buffers>
ffi::Error Handle(cudaStream_t stream, int32_t device, ffi::Dictionary attributes,
                  ffi::RemainingArgs inputs, ffi::RemainingRets outputs) {
  return ToFfi(Run<Buffers>(stream, device, attributes, inputs, outputs));
}

template <class Buffers>
XLA_FFI_Error* Register() {
  XLA_FFI_DEFINE_HANDLER(handler, Handle<Buffers>,
                         ffi::Ffi::Bind()
                             .Ctx<ffi::PlatformStream<cudaStream_t>>()
                             .Ctx<ffi::DeviceOrdinal>()
                             .Attrs()
                             .RemainingArgs()
                             .RemainingRets(),
                         {ffi::Traits::kCmdBufferCompatible});
  return ffi::Ffi::RegisterStaticHandler(
      XLA_FFI_GetApi(), Signature<Buffers>::kTarget, "CUDA", handler,
      XLA_FFI_HANDLER_TRAITS_COMMAND_BUFFER_COMPATIBLE);
}

[[maybe_unused]] const XLA_FFI_Error* const registered[] = {
    Register<ForwardBuffers>(),
    Register<BackwardBuffers>(),
    Register<SecondOrderBuffers>(),
};

}  // namespace

template <class Buffers>
int64_t WorkspaceBytes(const NormProblem& problem) {
  const int64_t bytes = cuda::MostWorkspaceBytes<Buffers>(problem, cuda::ListDevices());
  return bytes == 0 ? 0 : bytes + kWorkspaceAlignment - 1;
}

template int64_t WorkspaceBytes<ForwardBuffers>(const NormProblem&);
template int64_t WorkspaceBytes<BackwardBuffers>(const NormProblem&);
template int64_t WorkspaceBytes<SecondOrderBuffers>(const NormProblem&);

}  // namespace fusednorm

#endif  // FUSEDNORM_WITH_CUDA
