// The OpKernels but for their last step: they check what only running shows, allocate
// the outputs and find the buffers. A device derives from NormOp and NormGradOp, and
// says in Launch how it computes.
#pragma once

#include "core/problem.h"
#include "core/status.h"
#include "tensorflow/attributes.h"
#include "tensorflow/core/framework/op_kernel.h"

namespace fusednorm {

class NormOpBase : public tensorflow::OpKernel {
 public:
  explicit NormOpBase(tensorflow::OpKernelConstruction* context);
  void Compute(tensorflow::OpKernelContext* context) final;

 protected:
  const NodeAttributes& attributes() const { return attributes_; }

 private:
  virtual absl::Status Run(tensorflow::OpKernelContext* context) const = 0;

  NodeAttributes attributes_;
};

// `y` may be the buffer of x or of the residual, `sum` that of x.
class NormOp : public NormOpBase {
 public:
  using NormOpBase::NormOpBase;

 private:
  absl::Status Run(tensorflow::OpKernelContext* context) const final;
  virtual Status Launch(tensorflow::OpKernelContext* context,
                        const NormProblem& problem,
                        const ForwardBuffers& buffers) const = 0;
};

// `dx` may be the buffer of dy or of x.
class NormGradOp : public NormOpBase {
 public:
  using NormOpBase::NormOpBase;

 private:
  absl::Status Run(tensorflow::OpKernelContext* context) const final;
  virtual Status Launch(tensorflow::OpKernelContext* context,
                        const NormProblem& problem,
                        const BackwardBuffers& buffers) const = 0;
};

}  // namespace fusednorm

// Registers one device's classes for all ops and data types.
#define FUSEDNORM_REGISTER_NORM_OP(op, device, type, Forward, Backward)         \
  REGISTER_KERNEL_BUILDER(                                                      \
      Name("Fusednorm>" op).Device(device).TypeConstraint<type>("T"), Forward); \
  REGISTER_KERNEL_BUILDER(                                                      \
      Name("Fusednorm>" op "Grad").Device(device).TypeConstraint<type>("T"), Backward)
#define FUSEDNORM_REGISTER_NORM_OPS_OF_TYPE(device, type, Forward, Backward) \
  FUSEDNORM_REGISTER_NORM_OP("GroupNorm", device, type, Forward, Backward);  \
  FUSEDNORM_REGISTER_NORM_OP("LayerNorm", device, type, Forward, Backward);  \
  FUSEDNORM_REGISTER_NORM_OP("RMSNorm", device, type, Forward, Backward)
#define FUSEDNORM_REGISTER_NORM_OPS(device, Forward, Backward)                     \
  FUSEDNORM_REGISTER_NORM_OPS_OF_TYPE(device, float, Forward, Backward);           \
  FUSEDNORM_REGISTER_NORM_OPS_OF_TYPE(device, Eigen::half, Forward, Backward);     \
  FUSEDNORM_REGISTER_NORM_OPS_OF_TYPE(device, Eigen::bfloat16, Forward, Backward); \
  FUSEDNORM_REGISTER_NORM_OPS_OF_TYPE(device, double, Forward, Backward)
