// The ops for XLA: each becomes one custom call, which runs the same kernel as the
// OpKernel. XLA's threads and streams run it; see xla_host.cc and xla_cuda.cc.
#include <string>
#include <type_traits>
#include <vector>

#include "core/signature.h"
#include "tensorflow/compiler/tf2xla/shape_util.h"
#include "tensorflow/compiler/tf2xla/xla_op_kernel.h"
#include "tensorflow/compiler/tf2xla/xla_op_registry.h"
#include "tensorflow/registration.h"
#include "tensorflow/shapes.h"
#include "tensorflow/xla_problem.h"
#include "tensorflow/xla_workspace.h"
#include "xla/hlo/builder/xla_builder.h"
#include "xla/literal.h"
#include "xla/shape_util.h"

namespace fusednorm {
namespace {

using tensorflow::TensorShape;
using tensorflow::XlaOpKernelContext;

xla::PrimitiveType ToXla(DataType type) {
  switch (type) {
    case DataType::kFloat:
      return xla::F32;
    case DataType::kHalf:
      return xla::F16;
    case DataType::kBfloat16:
      return xla::BF16;
    case DataType::kDouble:
      return xla::F64;
  }
  return xla::PRIMITIVE_TYPE_INVALID;
}

xla::PrimitiveType XlaTypeOf(const NormProblem& problem, Part part) {
  return part == Part::kMask ? xla::PRED : ToXla(TypeOf(problem, part));
}

// Dense and row-major, whatever layout XLA prefers for the ops around.
xla::Shape RowMajor(xla::PrimitiveType type, const TensorShape& shape) {
  const auto sizes = shape.dim_sizes();
  return xla::ShapeUtil::MakeShapeWithDescendingLayout(type, sizes);
}

// The shape of an input. XLA bounds what comes out of e.g. tf.where: memory for the
// most there may be, of which an unknown part is there.
absl::Status StaticShape(const char* name, const absl::StatusOr<xla::Shape>& shape,
                         TensorShape* result) {
  TF_RETURN_IF_ERROR(shape.status());
  if (!shape->is_static()) {
    return absl::UnimplementedError(absl::StrCat(
        "under XLA, ", name, " must have a shape that is known when it compiles, got ",
        shape->ToString(), "; leave this norm outside of jit_compile=True"));
  }
  return tensorflow::XLAShapeToTensorShape(*shape, result);
}

// Whether it is zero whatever the inputs are: a constant, as it is or broadcast.
bool IsZero(xla::XlaOp op) {
  using Builder = xla::internal::XlaBuilderFriend;
  const xla::HloInstructionProto* made_by = Builder::GetInstruction(op);
  while (made_by->opcode() == "broadcast" || made_by->opcode() == "reshape") {
    made_by = Builder::GetInstructionByHandle(op.builder(), made_by->operand_ids(0));
  }
  if (made_by->opcode() != "constant") return false;
  const auto value = xla::Literal::CreateFromProto(made_by->literal());
  return value.ok() && value->IsAll(0);
}

// An operand of the custom call.
struct Given {
  With with;
  xla::XlaOp value;
  xla::Shape shape;
};

// Takes the gradients of sum, mean and rstd out of a problem where they are zero.
// TensorFlow's tapes make zeros for outputs that nothing depends on: XLA would write
// them to memory, and the kernels would read them.
void LeaveOutZeros(const std::vector<Given>& operands, NormProblem* problem) {
  problem->has_residual = problem->has_dstatistics = false;
  for (const Given& operand : operands) {
    const With::Option option = operand.with.option;
    const bool may_be_left_out =
        option == &NormOptions::has_residual || option == &NormOptions::has_dstatistics;
    if (may_be_left_out && !IsZero(operand.value)) problem->*option = true;
  }
}

template <class Buffers>
class XlaNormKernel : public tensorflow::XlaOpKernel {
 public:
  explicit XlaNormKernel(tensorflow::OpKernelConstruction* context)
      : XlaOpKernel(context),
        on_gpu_(context->device_type() == tensorflow::DEVICE_GPU_XLA_JIT) {
    OP_REQUIRES_OK(context, ReadAttributes<Buffers>(context, &attributes_));
  }

  void Compile(XlaOpKernelContext* context) final {
    OP_REQUIRES_OK(context, Lower(context));
  }

 private:
  absl::Status Lower(XlaOpKernelContext* context) const {
    TensorShape x;
    TF_RETURN_IF_ERROR(StaticShape("x", context->InputXlaShape("x"), &x));
    NormProblem problem;
    Shapes shapes;
    TF_RETURN_IF_ERROR(MakeProblem(attributes_, x, &problem, &shapes));
    std::vector<Given> given;
    for (const In<Buffers>& operand : Signature<Buffers>::kInputs) {
      if (!Has(problem, problem.centred, operand.with)) continue;
      const int index = static_cast<int>(given.size());
      TensorShape shape;
      TF_RETURN_IF_ERROR(
          StaticShape(operand.name, context->InputXlaShape(index), &shape));
      TF_RETURN_IF_ERROR(CheckShape(operand.name, shape, shapes.Of(operand.part)));
      given.push_back({operand.with, context->Input(index),
                       RowMajor(XlaTypeOf(problem, operand.part), shape)});
    }
    if (!std::is_same_v<Buffers, ForwardBuffers>) LeaveOutZeros(given, &problem);

    std::vector<xla::XlaOp> inputs;
    std::vector<xla::Shape> input_shapes, output_shapes;
    for (const Given& operand : given) {
      if (!Has(problem, problem.centred, operand.with)) continue;
      inputs.push_back(operand.value);
      input_shapes.push_back(operand.shape);
    }
    for (const Out<Buffers>& operand : Signature<Buffers>::kOutputs) {
      if (!Has(problem, problem.centred, operand.with)) continue;
      output_shapes.push_back(
          RowMajor(XlaTypeOf(problem, operand.part), shapes.Of(operand.part)));
    }
    const int num_outputs = static_cast<int>(output_shapes.size());
    if (const int64_t bytes = on_gpu_ ? Workspace(problem) : 0; bytes > 0) {
      output_shapes.push_back(RowMajor(xla::U8, TensorShape({bytes})));
    }

    const xla::XlaOp call = xla::CustomCallWithLayout(
        context->builder(), Signature<Buffers>::kTarget, inputs,
        xla::ShapeUtil::MakeTupleShape(output_shapes), input_shapes,
        ToAttributes(problem), /*has_side_effect=*/false,
        /*output_operand_aliasing=*/{},
        /*literal=*/nullptr, xla::CustomCallSchedule::SCHEDULE_NONE,
        xla::CustomCallApiVersion::API_VERSION_TYPED_FFI);
    for (int i = 0; i < num_outputs; ++i) {
      context->SetOutput(i, xla::GetTupleElement(call, i));
    }
    return absl::OkStatus();
  }

  static int64_t Workspace(const NormProblem& problem) {
#if defined(FUSEDNORM_WITH_CUDA)
    return WorkspaceBytes<Buffers>(problem);
#else
    static_cast<void>(problem);
    return 0;
#endif
  }

  const bool on_gpu_;
  NodeAttributes attributes_;
};

// Not REGISTER_XLA_OP: what is registered there becomes a kernel when TensorFlow
// initializes its devices, and a library that is loaded later is not seen.
[[maybe_unused]] const bool on_host =
    RegisterKernels<XlaNormKernel>(tensorflow::DEVICE_CPU_XLA_JIT);
#if defined(FUSEDNORM_WITH_CUDA)
[[maybe_unused]] const bool on_gpu =
    RegisterKernels<XlaNormKernel>(tensorflow::DEVICE_GPU_XLA_JIT);
#endif

}  // namespace
}  // namespace fusednorm
