// The custom calls on the CPU.
#include "cpu/norm.h"
#include "tensorflow/xla_handler.h"
#include "tensorflow/xla_threads.h"

namespace fusednorm {
namespace {

Status Run(const NormProblem& problem, const ForwardBuffers& buffers,
           const ParallelFor& parallel) {
  return cpu::Forward(problem, buffers, parallel);
}
Status Run(const NormProblem& problem, const BackwardBuffers& buffers,
           const ParallelFor& parallel) {
  return cpu::Backward(problem, buffers, parallel);
}
Status Run(const NormProblem& problem, const SecondOrderBuffers& buffers,
           const ParallelFor& parallel) {
  return cpu::SecondOrder(problem, buffers, parallel);
}

template <class Buffers>
ffi::Error Handle(ffi::ThreadPool pool, ffi::Dictionary attributes,
                  ffi::RemainingArgs inputs, ffi::RemainingRets outputs) {
  NormProblem problem;
  Buffers buffers;
  size_t num_outputs = 0;
  const Status status =
      Decode(attributes, inputs, outputs, &problem, &buffers, &num_outputs);
  return ToFfi(status.ok() ? Run(problem, buffers, XlaParallelFor(pool)) : status);
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
