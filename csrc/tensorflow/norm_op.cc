#include "tensorflow/norm_op.h"

#include <vector>

#include "tensorflow/core/framework/tensor.h"
#include "tensorflow/shapes.h"

namespace fusednorm {
namespace {

using tensorflow::OpKernelConstruction;
using tensorflow::OpKernelContext;
using tensorflow::Tensor;
using tensorflow::TensorShape;

// An input that must have a known shape.
absl::Status Input(OpKernelContext* context, const char* name,
                   const TensorShape& expected, const void** data) {
  const Tensor* tensor = nullptr;
  TF_RETURN_IF_ERROR(context->input(name, &tensor));
  TF_RETURN_IF_ERROR(CheckShape(name, tensor->shape(), expected));
  *data = tensor->data();
  return absl::OkStatus();
}

// The same for the one tensor of a list input; `data` stays null if the list is empty.
absl::Status OptionalInput(OpKernelContext* context, const char* name,
                           const TensorShape& expected, const void** data) {
  tensorflow::OpInputList list;
  TF_RETURN_IF_ERROR(context->input_list(name, &list));
  if (list.size() == 0) return absl::OkStatus();
  TF_RETURN_IF_ERROR(CheckShape(name, list[0].shape(), expected));
  *data = list[0].data();
  return absl::OkStatus();
}

absl::Status Allocate(OpKernelContext* context, int index, const TensorShape& shape,
                      void** data) {
  Tensor* tensor = nullptr;
  TF_RETURN_IF_ERROR(context->allocate_output(index, shape, &tensor));
  *data = tensor->data();
  return absl::OkStatus();
}

// Output `index` in the buffer of one of the inputs if nobody else reads that.
absl::Status ForwardOrAllocate(OpKernelContext* context, std::vector<int> inputs,
                               int index, const TensorShape& shape, void** data) {
  Tensor* tensor = nullptr;
  TF_RETURN_IF_ERROR(
      context->forward_input_or_allocate_output(inputs, index, shape, &tensor));
  *data = tensor->data();
  return absl::OkStatus();
}

// Parameters and mask; `Buffers` of either direction.
template <class Buffers>
absl::Status Parameters(OpKernelContext* context, const NormProblem& problem,
                        const Shapes& shapes, Buffers* buffers) {
  TF_RETURN_IF_ERROR(OptionalInput(context, "gamma", shapes.params, &buffers->gamma));
  if (problem.centred) {
    TF_RETURN_IF_ERROR(OptionalInput(context, "beta", shapes.params, &buffers->beta));
  }
  return problem.has_mask ? OptionalInput(context, "mask", shapes.mask, &buffers->mask)
                          : absl::OkStatus();
}

}  // namespace

NormOpBase::NormOpBase(OpKernelConstruction* context) : OpKernel(context) {
  OP_REQUIRES_OK(context, ReadAttributes(context, &attributes_));
}

void NormOpBase::Compute(OpKernelContext* context) {
  OP_REQUIRES_OK(context, Run(context));
}

absl::Status NormOp::Run(OpKernelContext* context) const {
  const Tensor& x = context->input(0);
  NormProblem problem;
  Shapes shapes;
  TF_RETURN_IF_ERROR(MakeProblem(attributes(), x.shape(), &problem, &shapes));

  ForwardBuffers buffers;
  buffers.x = x.data();
  TF_RETURN_IF_ERROR(Parameters(context, problem, shapes, &buffers));
  TF_RETURN_IF_ERROR(OptionalInput(context, "residual", x.shape(), &buffers.residual));

  int output = 0, residual = 0, end = 0;
  TF_RETURN_IF_ERROR(InputRange("residual", &residual, &end));
  TF_RETURN_IF_ERROR(ForwardOrAllocate(context, {problem.has_residual ? residual : 0},
                                       output++, x.shape(), &buffers.y));
  if (problem.has_residual) {
    TF_RETURN_IF_ERROR(
        ForwardOrAllocate(context, {0}, output++, x.shape(), &buffers.sum));
  }
  if (problem.centred) {
    TF_RETURN_IF_ERROR(Allocate(context, output++, shapes.statistics, &buffers.mean));
  }
  TF_RETURN_IF_ERROR(Allocate(context, output++, shapes.statistics, &buffers.rstd));
  return ToTensorFlow(Launch(context, problem, buffers));
}

absl::Status NormGradOp::Run(OpKernelContext* context) const {
  const Tensor& x = context->input(1);
  NormProblem problem;
  Shapes shapes;
  TF_RETURN_IF_ERROR(MakeProblem(attributes(), x.shape(), &problem, &shapes));

  BackwardBuffers buffers;
  buffers.x = x.data();
  TF_RETURN_IF_ERROR(Parameters(context, problem, shapes, &buffers));
  TF_RETURN_IF_ERROR(Input(context, "dy", x.shape(), &buffers.dy));
  TF_RETURN_IF_ERROR(OptionalInput(context, "dsum", x.shape(), &buffers.dsum));
  if (problem.centred) {
    TF_RETURN_IF_ERROR(Input(context, "mean", shapes.statistics, &buffers.mean));
    TF_RETURN_IF_ERROR(Input(context, "dmean", shapes.statistics, &buffers.dmean));
  }
  TF_RETURN_IF_ERROR(Input(context, "rstd", shapes.statistics, &buffers.rstd));
  TF_RETURN_IF_ERROR(Input(context, "drstd", shapes.statistics, &buffers.drstd));

  int output = 0;
  TF_RETURN_IF_ERROR(
      ForwardOrAllocate(context, {0, 1}, output++, x.shape(), &buffers.dx));
  if (problem.has_gamma) {
    TF_RETURN_IF_ERROR(Allocate(context, output++, shapes.params, &buffers.dgamma));
  }
  if (problem.has_beta) {
    TF_RETURN_IF_ERROR(Allocate(context, output++, shapes.params, &buffers.dbeta));
  }
  return ToTensorFlow(Launch(context, problem, buffers));
}

absl::Status NormGradGradOp::Run(OpKernelContext* context) const {
  const Tensor& x = context->input(1);
  NormProblem problem;
  Shapes shapes;
  TF_RETURN_IF_ERROR(MakeProblem(attributes(), x.shape(), &problem, &shapes));

  SecondOrderBuffers buffers;
  buffers.x = x.data();
  TF_RETURN_IF_ERROR(Input(context, "dy", x.shape(), &buffers.dy));
  TF_RETURN_IF_ERROR(Input(context, "ddx", x.shape(), &buffers.ddx));
  TF_RETURN_IF_ERROR(OptionalInput(context, "gamma", shapes.params, &buffers.gamma));
  TF_RETURN_IF_ERROR(
      OptionalInput(context, "ddgamma", shapes.params, &buffers.ddgamma));
  if (problem.centred) {
    TF_RETURN_IF_ERROR(
        OptionalInput(context, "ddbeta", shapes.params, &buffers.ddbeta));
    TF_RETURN_IF_ERROR(Input(context, "mean", shapes.statistics, &buffers.mean));
  }
  TF_RETURN_IF_ERROR(Input(context, "rstd", shapes.statistics, &buffers.rstd));
  TF_RETURN_IF_ERROR(Input(context, "drstd", shapes.statistics, &buffers.drstd));

  int ddx = 0, end = 0;
  TF_RETURN_IF_ERROR(InputRange("ddx", &ddx, &end));
  int output = 0;
  TF_RETURN_IF_ERROR(
      ForwardOrAllocate(context, {0, 1, ddx}, output++, x.shape(), &buffers.d_dy));
  TF_RETURN_IF_ERROR(
      ForwardOrAllocate(context, {0, 1, ddx}, output++, x.shape(), &buffers.d_x));
  if (problem.has_gamma) {
    TF_RETURN_IF_ERROR(Allocate(context, output++, shapes.params, &buffers.d_gamma));
  }
  if (problem.centred) {
    TF_RETURN_IF_ERROR(
        Allocate(context, output++, shapes.statistics, &buffers.d_dmean));
  }
  TF_RETURN_IF_ERROR(Allocate(context, output++, shapes.statistics, &buffers.d_drstd));
  return ToTensorFlow(Launch(context, problem, buffers));
}

}  // namespace fusednorm
