// The OpKernels but for their last step: they check what only running shows, allocate
// the outputs and find the buffers. A device derives from NormOp, NormGradOp and
// NormGradGradOp, and says in Launch how it computes.
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

// `d_dy` and `d_x` may be the buffers of two of dy, x and ddx.
class NormGradGradOp : public NormOpBase {
 public:
  using NormOpBase::NormOpBase;

 private:
  absl::Status Run(tensorflow::OpKernelContext* context) const final;
  virtual Status Launch(tensorflow::OpKernelContext* context,
                        const NormProblem& problem,
                        const SecondOrderBuffers& buffers) const = 0;
};

}  // namespace fusednorm

// Registers one device's classes for all ops and data types.
#define FUSEDNORM_REGISTER_NORM_OP(op, device, type, Forward, Backward, SecondOrder) \
  REGISTER_KERNEL_BUILDER(                                                           \
      Name("Fusednorm>" op).Device(device).TypeConstraint<type>("T"), Forward);      \
  REGISTER_KERNEL_BUILDER(                                                           \
      Name("Fusednorm>" op "Grad").Device(device).TypeConstraint<type>("T"),         \
      Backward);                                                                     \
  REGISTER_KERNEL_BUILDER(                                                           \
      Name("Fusednorm>" op "GradGrad").Device(device).TypeConstraint<type>("T"),     \
      SecondOrder)
#define FUSEDNORM_REGISTER_NORM_OPS_OF_TYPE(device, type, ...)        \
  FUSEDNORM_REGISTER_NORM_OP("GroupNorm", device, type, __VA_ARGS__); \
  FUSEDNORM_REGISTER_NORM_OP("LayerNorm", device, type, __VA_ARGS__); \
  FUSEDNORM_REGISTER_NORM_OP("RMSNorm", device, type, __VA_ARGS__)
// The classes of the forward, the gradient and the second-order ops.
#define FUSEDNORM_REGISTER_NORM_OPS(device, ...)                             \
  FUSEDNORM_REGISTER_NORM_OPS_OF_TYPE(device, float, __VA_ARGS__);           \
  FUSEDNORM_REGISTER_NORM_OPS_OF_TYPE(device, Eigen::half, __VA_ARGS__);     \
  FUSEDNORM_REGISTER_NORM_OPS_OF_TYPE(device, Eigen::bfloat16, __VA_ARGS__); \
  FUSEDNORM_REGISTER_NORM_OPS_OF_TYPE(device, double, __VA_ARGS__)
