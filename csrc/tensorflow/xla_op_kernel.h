// What we use of TensorFlow's tf2xla/xla_op_kernel.h and xla_op_registry.h, declared
// again. Those include XLA's compiler and client, and to read these takes the compiler
// several times as long as everything else that xla_kernels.cc needs.
//
// XlaOpKernel must be the same class as there. XlaOpKernelContext, which only
// TensorFlow makes, has here just the functions that we call. For each new version of
// TensorFlow compare both. A function with other parameters is an error when the
// library is linked; all else is for tests/modes/test_xla.py to find.
#pragma once

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "tensorflow/core/framework/op_kernel.h"
#include "xla/hlo/builder/xla_builder.h"
#include "xla/shape.h"

namespace tensorflow {

class XlaOpKernelContext {
 public:
  xla::XlaBuilder* builder() const;
  xla::XlaOp Input(int index);
  absl::StatusOr<xla::Shape> InputXlaShape(int index);
  absl::StatusOr<xla::Shape> InputXlaShape(absl::string_view name);
#if FUSEDNORM_TENSORFLOW_MINOR < 21
  void SetOutput(int index, const xla::XlaOp& handle);
#else
  void SetOutput(int index, xla::XlaOp handle);
#endif
  // For OP_REQUIRES_OK.
  void CtxFailureWithWarning(const char* file, int line, const absl::Status& status);
};

class XlaOpKernel : public OpKernel {
 public:
  explicit XlaOpKernel(OpKernelConstruction* construction);
  virtual void Compile(XlaOpKernelContext* context) = 0;

 private:
  void Compute(OpKernelContext* context) final;
};

// The names of the devices that kernels for XLA are registered on.
extern const char* const DEVICE_CPU_XLA_JIT;
extern const char* const DEVICE_GPU_XLA_JIT;

}  // namespace tensorflow
