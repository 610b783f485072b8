// The ops' interfaces: one op for each norm and pass, of what its Signature says.
// Kernels are in norm_op*.cc and xla_kernels.cc.
#include <string>
#include <type_traits>

#include "core/signature.h"
#include "tensorflow/core/framework/op.h"
#include "tensorflow/core/framework/op_def_builder.h"
#include "tensorflow/shape_functions.h"

namespace fusednorm {
namespace {

using tensorflow::OpDefBuilder;
using tensorflow::shape_inference::InferenceContext;

const char* TypeName(Part part) {
  return part == Part::kData     ? "T"
         : part == Part::kParams ? "U"
         : part == Part::kMask   ? "bool"
                                 : "S";
}

const char* ShapeName(const Norm& norm, Part part) {
  if (norm.is_group_norm) {
    return part == Part::kData     ? "[N, ..., C at axis, ...]"
           : part == Part::kParams ? "[C]"
           : part == Part::kMask   ? "[N, ..., ...], x without its channel axis"
                                   : "[N, groups]";
  }
  return part == Part::kData     ? "[outer..., axes..., inner...]"
         : part == Part::kParams ? "[axes...]"
                                 : "[outer..., inner...]";
}

// As OpDefBuilder reads it: "gamma: num_gamma * U".
template <class Buffers, class Pointer>
std::string Spec(const Operand<Buffers, Pointer>& operand) {
  const char* length = operand.with.length;
  return std::string(operand.name) + ": " +
         (length == nullptr ? "" : std::string(length) + " * ") +
         TypeName(operand.part);
}

template <class Buffers, class Pointer>
std::string Doc(const Norm& norm, const Operand<Buffers, Pointer>& operand) {
  return std::string(operand.name) + ": " + operand.doc + "; " +
         ShapeName(norm, operand.part) +
         (operand.with.length == nullptr ? "" : ", or none") + ".\n";
}

// The order of attributes is that of the arguments of the generated functions in
// Python. These two stand further back than the lengths of other lists.
bool StandsFurtherBack(const With& with) {
  return with.option == &NormOptions::has_gamma ||
         with.option == &NormOptions::has_residual;
}

template <class Buffers>
void AddAttributes(const Norm& norm, OpDefBuilder* op) {
  for (const In<Buffers>& operand : Signature<Buffers>::kInputs) {
    const With& with = operand.with;
    if (with.length == nullptr || !Includes(with.norms, norm)) continue;
    if (StandsFurtherBack(with)) continue;
    op->Attr(std::string(with.length) + ": int >= 0" + (with.came_later ? " = 0" : ""));
  }
  if (norm.is_group_norm) {
    op->Attr("groups: int").Attr("axis: int = -1");
  } else {
    op->Attr("axes: list(int)");
  }
  if (Signature<Buffers>::kHasActivation) {
    op->Attr("num_residual: int >= 0")
        .Attr(
            "activation: {'none', 'relu', 'leaky_relu', 'silu', 'gelu', 'gelu_tanh', "
            "'tanh', 'sigmoid'} = 'none'")
        .Attr("per_position: bool = false");
  }
  op->Attr("T: {half, bfloat16, float, double}")
      .Attr("U: {half, bfloat16, float, double} = DT_FLOAT")
      .Attr("S: {float, double} = DT_FLOAT")
      .Attr("num_gamma: int >= 0")
      .Attr("epsilon: float = 0.001")
      .Attr("epsilon_low: float = 0.0")
      .Attr("zero_centered: bool = false")
      .Attr("per_sample: bool = false");
}

std::string Formula(const Norm& norm) {
  if (!norm.centred) {
    return "y = activation(s * rstd * gamma), s = x + residual,\n"
           "rstd = 1 / sqrt(mean(s^2) + epsilon) over the axes.\n";
  }
  return std::string(
             "y = activation((s - mean) * rstd * gamma + beta), s = x + residual, "
             "mean and\nrstd = 1 / sqrt(variance + epsilon) over ") +
         (norm.is_group_norm ? "each sample and group of channels.\n" : "the axes.\n");
}

std::string DocOfAttributes(const Norm& norm) {
  return std::string(norm.is_group_norm
                         ? "groups: divides C; -1 for one group per channel "
                           "(InstanceNorm).\naxis: the channel axis, not 0.\n"
                         : "axes: consecutive axes in increasing order.\n") +
         R"doc(T: type of the data; arithmetic is in S.
U: type of gamma and beta: S or T.
S: type of the statistics: double for T double, else float.
epsilon: added to the variance (mean square); >= 0.
epsilon_low: added to epsilon, so that double problems see an epsilon that float rounds.
activation: applied to the result.
zero_centered: multiply by 1 + gamma instead of gamma.
per_sample: gamma and beta have axis 0 of x before their other axes.
per_position: gamma and beta have the shape of x. Not of gradients of gradients.
)doc";
}

template <class Buffers>
constexpr bool kIsForward = std::is_same_v<Buffers, ForwardBuffers>;

// The first lines of an op's documentation.
template <class Buffers>
std::string Summary(const Norm& norm) {
  if (kIsForward<Buffers>) return Formula(norm);
  const std::string gradient = std::string("Gradient of ") + norm.op;
  return std::is_same_v<Buffers, BackwardBuffers>
             ? gradient + "; attributes as there.\n"
             : gradient + "Grad without activation; attributes as there.\n";
}

template <class Buffers>
absl::Status Shape(InferenceContext* c, const Norm& norm) {
  if constexpr (kIsForward<Buffers>) {
    return ForwardShape(c, norm);
  } else {
    return GradientShape<Buffers>(c, norm);
  }
}

template <class Buffers>
absl::Status Define(const Norm& norm, tensorflow::OpRegistrationData* data) {
  OpDefBuilder op(OpName<Buffers>(norm));
  std::string doc = Summary<Buffers>(norm) + "\n";
  const auto add = [&](const auto& operand, const auto& add_to_op) {
    if (!Includes(operand.with.norms, norm)) return;
    add_to_op(Spec(operand));
    doc += Doc(norm, operand);
  };
  for (const In<Buffers>& operand : Signature<Buffers>::kInputs) {
    add(operand, [&](const std::string& spec) { op.Input(spec); });
  }
  for (const Out<Buffers>& operand : Signature<Buffers>::kOutputs) {
    add(operand, [&](const std::string& spec) { op.Output(spec); });
  }
  AddAttributes<Buffers>(norm, &op);
  if (kIsForward<Buffers>) doc += DocOfAttributes(norm);
  op.SetShapeFn([&norm](InferenceContext* c) { return Shape<Buffers>(c, norm); });
  return op.Doc(doc).Finalize(data);
}

template <class Buffers>
void Register() {
  for (const Norm& norm : kNorms) {
    tensorflow::OpRegistry::Global()->Register(
        [&norm](tensorflow::OpRegistrationData* data) {
          return Define<Buffers>(norm, data);
        });
  }
}

[[maybe_unused]] const bool registered = [] {
  Register<ForwardBuffers>();
  Register<BackwardBuffers>();
  Register<SecondOrderBuffers>();
  return true;
}();

}  // namespace
}  // namespace fusednorm
