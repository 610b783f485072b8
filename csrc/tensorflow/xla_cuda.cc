// The custom calls on CUDA devices.
#if defined(FUSEDNORM_WITH_CUDA)

#include <cuda_runtime.h>

#include <algorithm>
#include <cstdint>
#include <string>

#include "cuda/enqueue.h"
#include "tensorflow/xla_handler.h"
#include "tensorflow/xla_workspace.h"

namespace fusednorm {
namespace {

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
    const int64_t there =
        workspace.has_value() ? static_cast<int64_t>((*workspace)->size_bytes()) : 0;
    if (there < bytes) {
      return Status::Internal("custom call: compiled with a workspace of " +
                              std::to_string(there) + " bytes for another device; " +
                              std::to_string(bytes) + " are needed here");
    }
    *data = (*workspace)->untyped_data();
    return Status();
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
};

// Buffers that are all there and lie at an address which kernels never see.
template <class Buffers>
Buffers BuffersAt(const NormProblem& problem, uintptr_t address) {
  Buffers buffers;
  for (const In<Buffers>& operand : Signature<Buffers>::kInputs) {
    if (!Has(problem, problem.centred, operand.with)) continue;
    buffers.*operand.buffer = reinterpret_cast<const void*>(address);
  }
  for (const Out<Buffers>& operand : Signature<Buffers>::kOutputs) {
    if (!Has(problem, problem.centred, operand.with)) continue;
    buffers.*operand.buffer = reinterpret_cast<void*>(address);
  }
  return buffers;
}

}  // namespace

template <class Buffers>
int64_t WorkspaceBytes(const NormProblem& problem) {
  constexpr uintptr_t kAligned = 256;
  int64_t bytes = 0;
  for (const cuda::Device& device : cuda::ListDevices()) {
    for (const uintptr_t address : {kAligned, kAligned + 1}) {
      const auto buffers = BuffersAt<Buffers>(problem, address);
      bytes = std::max(bytes, cuda::MakePlan(problem, buffers, device).workspace_bytes);
    }
  }
  return bytes;
}

template int64_t WorkspaceBytes<ForwardBuffers>(const NormProblem&);
template int64_t WorkspaceBytes<BackwardBuffers>(const NormProblem&);

}  // namespace fusednorm

#endif  // FUSEDNORM_WITH_CUDA
