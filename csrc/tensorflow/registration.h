// Registers the kernels of all ops on a device.
#pragma once

#include <string>

#include "core/signature.h"
#include "tensorflow/core/framework/kernel_def_builder.h"
#include "tensorflow/core/framework/op_kernel.h"

namespace fusednorm {

// Those of one pass, for all norms. They are for all types that the ops have.
template <class Kernel, class Buffers>
void RegisterKernelsOfPass(const char* device) {
  for (const Norm& norm : kNorms) {
    const std::string op = OpName<Buffers>(norm);
    tensorflow::kernel_factory::OpKernelRegistrar(
        tensorflow::KernelDefBuilder(op.c_str()).Device(device).Build(), op,
        [](tensorflow::OpKernelConstruction* context) -> tensorflow::OpKernel* {
          return new Kernel(context);
        });
  }
}

// Those of all passes. Returns true, for a variable whose initialization calls this.
template <template <class Buffers> class Kernel>
bool RegisterKernels(const char* device) {
  RegisterKernelsOfPass<Kernel<ForwardBuffers>, ForwardBuffers>(device);
  RegisterKernelsOfPass<Kernel<BackwardBuffers>, BackwardBuffers>(device);
  RegisterKernelsOfPass<Kernel<SecondOrderBuffers>, SecondOrderBuffers>(device);
  return true;
}

}  // namespace fusednorm
