// The custom calls on the CPU.
#include "cpu/run.h"
#include "tensorflow/xla_handler.h"
#include "tensorflow/xla_threads.h"

namespace fusednorm {
namespace {

template <class Buffers>
ffi::Error Handle(ffi::ThreadPool pool, ffi::Dictionary attributes,
                  ffi::RemainingArgs inputs, ffi::RemainingRets outputs) {
  NormProblem problem;
  Buffers buffers;
  size_t num_outputs = 0;
  const Status status =
      Decode(attributes, inputs, outputs, &problem, &buffers, &num_outputs);
  return ToFfi(status.ok() ? cpu::Run(problem, buffers, XlaParallelFor(pool)) : status);
}

template <class Buffers>
XLA_FFI_Error* Register() {
  XLA_FFI_DEFINE_HANDLER(
      handler, Handle<Buffers>,
      ffi::Ffi::Bind().Ctx<ffi::ThreadPool>().Attrs().RemainingArgs().RemainingRets());
  return ffi::Ffi::RegisterStaticHandler(XLA_FFI_GetApi(), Signature<Buffers>::kTarget,
                                         "Host", handler);
}

[[maybe_unused]] const XLA_FFI_Error* const registered[] = {
    Register<ForwardBuffers>(),
    Register<BackwardBuffers>(),
    Register<SecondOrderBuffers>(),
};

}  // namespace
}  // namespace fusednorm
