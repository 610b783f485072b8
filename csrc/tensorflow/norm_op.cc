// CPU OpKernels: check what only running shows, find the buffers, call the kernel API.
#include <cstdint>
#include <string>
#include <vector>

#include "core/parallel.h"
#include "core/problem.h"
#include "cpu/norm.h"
#include "tensorflow/attributes.h"
#include "tensorflow/core/framework/op_kernel.h"
#include "tensorflow/core/framework/tensor.h"

namespace fusednorm {
namespace {

using tensorflow::OpKernel;
using tensorflow::OpKernelConstruction;
using tensorflow::OpKernelContext;
using tensorflow::Tensor;
using tensorflow::TensorShape;

// The op's share of TensorFlow's intra-op threads.
class IntraOpParallelFor : public ParallelFor {
 public:
  explicit IntraOpParallelFor(OpKernelContext* context)
      : pool_(context->device()->tensorflow_cpu_worker_threads()->workers) {}

  void Run(int64_t count, int64_t elements, Body body, void* context) const override {
    // Waking another thread takes as long as this many elements.
    constexpr int64_t kWorthAThread = 16384;
    constexpr int64_t kCyclesPerElement = 2;
    if (count <= 1 || count * elements < kWorthAThread) return body(context, 0, count);
    using Pool = tensorflow::thread::ThreadPool;
    pool_->ParallelFor(count,
                       Pool::SchedulingParams::Adaptive(elements * kCyclesPerElement),
                       [=](int64_t begin, int64_t end) { body(context, begin, end); });
  }

 private:
  tensorflow::thread::ThreadPool* const pool_;
};

std::vector<int64_t> ToVector(const TensorShape& shape) {
  std::vector<int64_t> dims;
  for (int i = 0; i < shape.dims(); ++i) dims.push_back(shape.dim_size(i));
  return dims;
}

absl::Status CheckShape(const char* name, const Tensor& tensor,
                        const TensorShape& expected) {
  if (tensor.shape() == expected) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(name, " must have shape ",
                                                 expected.DebugString(), ", got ",
                                                 tensor.shape().DebugString()));
}

// The shapes that belong to a problem.
struct Shapes {
  TensorShape params;
  TensorShape statistics;
};

// Common to forward and backward: attributes, inputs by name, checks.
class NormOpBase : public OpKernel {
 public:
  explicit NormOpBase(OpKernelConstruction* context) : OpKernel(context) {
    const std::string op = type_string();
    const bool is_group_norm = op.find("GroupNorm") != std::string::npos;
    const bool centred = op.find("RMSNorm") == std::string::npos;
    OP_REQUIRES_OK(context,
                   ReadAttributes(context, is_group_norm, centred, &attributes_));
  }

  void Compute(OpKernelContext* context) override {
    OP_REQUIRES_OK(context, Run(context));
  }

 protected:
  virtual absl::Status Run(OpKernelContext* context) const = 0;

  // The one tensor of a list input, null if the list is empty.
  static absl::Status Optional(OpKernelContext* context, const char* name,
                               const Tensor** tensor) {
    tensorflow::OpInputList list;
    TF_RETURN_IF_ERROR(context->input_list(name, &list));
    *tensor = list.size() == 0 ? nullptr : &list[0];
    return absl::OkStatus();
  }

  absl::Status Prepare(OpKernelContext* context, const Tensor& x, NormProblem* problem,
                       Shapes* shapes, const Tensor** gamma,
                       const Tensor** beta) const {
    NormShapes dims;
    TF_RETURN_IF_ERROR(
        ToTensorFlow(attributes_.MakeProblem(ToVector(x.shape()), problem, &dims)));
    shapes->params = TensorShape(dims.params);
    shapes->statistics = TensorShape(dims.statistics);
    *gamma = *beta = nullptr;
    TF_RETURN_IF_ERROR(Optional(context, "gamma", gamma));
    if (*gamma != nullptr)
      TF_RETURN_IF_ERROR(CheckShape("gamma", **gamma, shapes->params));
    if (attributes_.centred) TF_RETURN_IF_ERROR(Optional(context, "beta", beta));
    if (*beta != nullptr)
      TF_RETURN_IF_ERROR(CheckShape("beta", **beta, shapes->params));
    return absl::OkStatus();
  }

  // An input that must have a known shape.
  static absl::Status Checked(OpKernelContext* context, const char* name,
                              const TensorShape& expected, const void** data) {
    const Tensor* tensor = nullptr;
    TF_RETURN_IF_ERROR(context->input(name, &tensor));
    TF_RETURN_IF_ERROR(CheckShape(name, *tensor, expected));
    *data = tensor->data();
    return absl::OkStatus();
  }

  static const void* DataOf(const Tensor* tensor) {
    return tensor == nullptr ? nullptr : tensor->data();
  }

  static absl::Status Allocate(OpKernelContext* context, int index,
                               const TensorShape& shape, void** data) {
    Tensor* tensor = nullptr;
    TF_RETURN_IF_ERROR(context->allocate_output(index, shape, &tensor));
    *data = tensor->data();
    return absl::OkStatus();
  }

  // Output `index` in the buffer of one of the inputs if nobody else reads that.
  static absl::Status ForwardOrAllocate(OpKernelContext* context,
                                        std::vector<int> inputs, int index,
                                        const TensorShape& shape, void** data) {
    Tensor* tensor = nullptr;
    TF_RETURN_IF_ERROR(
        context->forward_input_or_allocate_output(inputs, index, shape, &tensor));
    *data = tensor->data();
    return absl::OkStatus();
  }

  NodeAttributes attributes_;
};

class NormOp : public NormOpBase {
 public:
  using NormOpBase::NormOpBase;

 private:
  absl::Status Run(OpKernelContext* context) const override {
    const Tensor& x = context->input(0);
    NormProblem problem;
    Shapes shapes;
    const Tensor *gamma, *beta, *residual;
    TF_RETURN_IF_ERROR(Prepare(context, x, &problem, &shapes, &gamma, &beta));
    TF_RETURN_IF_ERROR(Optional(context, "residual", &residual));
    if (residual != nullptr)
      TF_RETURN_IF_ERROR(CheckShape("residual", *residual, x.shape()));

    ForwardBuffers buffers;
    buffers.x = x.data();
    buffers.residual = DataOf(residual);
    buffers.gamma = DataOf(gamma);
    buffers.beta = DataOf(beta);
    int output = 0;
    const int last_input = context->num_inputs() - 1;  // the residual, if there is one
    TF_RETURN_IF_ERROR(ForwardOrAllocate(context,
                                         {residual == nullptr ? 0 : last_input},
                                         output++, x.shape(), &buffers.y));
    if (residual != nullptr) {
      TF_RETURN_IF_ERROR(
          ForwardOrAllocate(context, {0}, output++, x.shape(), &buffers.sum));
    }
    if (problem.centred) {
      TF_RETURN_IF_ERROR(Allocate(context, output++, shapes.statistics, &buffers.mean));
    }
    TF_RETURN_IF_ERROR(Allocate(context, output++, shapes.statistics, &buffers.rstd));
    return ToTensorFlow(cpu::Forward(problem, buffers, IntraOpParallelFor(context)));
  }
};

class NormGradOp : public NormOpBase {
 public:
  using NormOpBase::NormOpBase;

 private:
  absl::Status Run(OpKernelContext* context) const override {
    const Tensor& dy = context->input(0);
    const Tensor& x = context->input(1);
    NormProblem problem;
    Shapes shapes;
    const Tensor *gamma, *beta, *dsum;
    TF_RETURN_IF_ERROR(Prepare(context, x, &problem, &shapes, &gamma, &beta));
    TF_RETURN_IF_ERROR(CheckShape("dy", dy, x.shape()));
    TF_RETURN_IF_ERROR(Optional(context, "dsum", &dsum));
    if (dsum != nullptr) TF_RETURN_IF_ERROR(CheckShape("dsum", *dsum, x.shape()));

    BackwardBuffers buffers;
    buffers.dy = dy.data();
    buffers.x = x.data();
    buffers.gamma = DataOf(gamma);
    buffers.beta = DataOf(beta);
    buffers.dsum = DataOf(dsum);
    if (problem.centred) {
      TF_RETURN_IF_ERROR(Checked(context, "mean", shapes.statistics, &buffers.mean));
      TF_RETURN_IF_ERROR(Checked(context, "dmean", shapes.statistics, &buffers.dmean));
    }
    TF_RETURN_IF_ERROR(Checked(context, "rstd", shapes.statistics, &buffers.rstd));
    TF_RETURN_IF_ERROR(Checked(context, "drstd", shapes.statistics, &buffers.drstd));
    int output = 0;
    TF_RETURN_IF_ERROR(
        ForwardOrAllocate(context, {0, 1}, output++, x.shape(), &buffers.dx));
    if (gamma != nullptr) {
      TF_RETURN_IF_ERROR(Allocate(context, output++, shapes.params, &buffers.dgamma));
    }
    if (beta != nullptr) {
      TF_RETURN_IF_ERROR(Allocate(context, output++, shapes.params, &buffers.dbeta));
    }
    return ToTensorFlow(cpu::Backward(problem, buffers, IntraOpParallelFor(context)));
  }
};

#define FUSEDNORM_REGISTER(op, type)                                                  \
  REGISTER_KERNEL_BUILDER(                                                            \
      Name("Fusednorm>" op).Device(tensorflow::DEVICE_CPU).TypeConstraint<type>("T"), \
      NormOp);                                                                        \
  REGISTER_KERNEL_BUILDER(Name("Fusednorm>" op "Grad")                                \
                              .Device(tensorflow::DEVICE_CPU)                         \
                              .TypeConstraint<type>("T"),                             \
                          NormGradOp);
#define FUSEDNORM_REGISTER_ALL(type)    \
  FUSEDNORM_REGISTER("GroupNorm", type) \
  FUSEDNORM_REGISTER("LayerNorm", type) \
  FUSEDNORM_REGISTER("RMSNorm", type)

FUSEDNORM_REGISTER_ALL(float)
FUSEDNORM_REGISTER_ALL(Eigen::half)
FUSEDNORM_REGISTER_ALL(tensorflow::bfloat16)
FUSEDNORM_REGISTER_ALL(double)

}  // namespace
}  // namespace fusednorm
