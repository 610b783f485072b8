// forward, backward and second_order on NumPy arrays.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <optional>
#include <string>
#include <vector>

#include "core/signature.h"
#include "cpu/run.h"
#include "python/arrays.h"
#include "python/module.h"
#include "python/passes.h"
#include "python/threads.h"

namespace fusednorm {
namespace {

using OptionalArray = std::optional<py::array>;

// What a call says of the processor.
struct Processor {
  int num_threads;
  cpu::Isa isa;
};

Processor MakeProcessor(int num_threads, const std::string& isa) {
  if (num_threads < 1) {
    throw py::value_error("num_threads must be positive, got " +
                          std::to_string(num_threads));
  }
  Processor processor{num_threads, cpu::DefaultIsa()};
  if (isa != "auto") ThrowIfError(cpu::IsaFromName(isa, &processor.isa));
  return processor;
}

OptionalArray ArrayOf(const Arguments& arguments, const std::string& name) {
  const py::object& value = arguments[name];
  if (value.is_none()) return std::nullopt;
  return arguments.Get<py::array>(name);
}

// The type of new arrays that are this part of a problem: that of inputs which are.
template <class Buffers>
py::dtype NewType(const NormProblem& problem, Part part,
                  const std::vector<OptionalArray>& arrays) {
  for (size_t i = 0; i < arrays.size(); ++i) {
    const bool is_like_it = Signature<Buffers>::kInputs[i].part == part;
    if (is_like_it && arrays[i]) return arrays[i]->dtype();
  }
  return TypeOf(problem, part) == DataType::kDouble ? py::dtype::of<double>()
                                                    : py::dtype::of<float>();
}

// Runs a pass. Returns its outputs, None for those that the problem does not have.
template <class Buffers>
py::tuple RunPass(const Arguments& arguments) {
  const auto& inputs = Signature<Buffers>::kInputs;
  const Processor processor = MakeProcessor(arguments.Get<int>("num_threads"),
                                            arguments.Get<std::string>("isa"));
  // Kept while the kernel reads them.
  std::vector<OptionalArray> arrays;
  std::vector<std::optional<Given>> given;
  for (const In<Buffers>& operand : inputs) {
    const OptionalArray& array = arrays.emplace_back(ArrayOf(arguments, operand.name));
    std::optional<Given>& each = given.emplace_back();
    if (!array) continue;
    each = {ShapeOf(*array), std::nullopt};
    if (operand.part != Part::kMask) each->type = DataTypeOf(operand.name, *array);
  }
  const Resolved call =
      Resolve<Buffers>(SpecOf(arguments, Signature<Buffers>::kHasActivation), given);
  const NormProblem& problem = call.problem;

  Buffers buffers;
  for (size_t i = 0; i < arrays.size(); ++i) {
    if (!arrays[i]) continue;
    const Part part = inputs[i].part;
    arrays[i] =
        Dense(inputs[i].name, *arrays[i], call.ShapeOf(part), call.TypeNameOf(part));
    buffers.*inputs[i].buffer = arrays[i]->data();
  }
  py::list outputs;
  for (const Out<Buffers>& operand : Signature<Buffers>::kOutputs) {
    if (!Has(problem, problem.centred, operand.with)) {
      outputs.append(py::none());
      continue;
    }
    py::array output = NewArray(NewType<Buffers>(problem, operand.part, arrays),
                                call.ShapeOf(operand.part));
    buffers.*operand.buffer = output.mutable_data();
    outputs.append(output);
  }
  Status status;
  {
    const py::gil_scoped_release release;
    status = cpu::Run(problem, buffers, ThreadsParallelFor(processor.num_threads),
                      processor.isa);
  }
  ThrowIfError(status);
  return py::tuple(outputs);
}

std::vector<std::string> UsableIsaNames() {
  std::vector<std::string> names;
  for (const cpu::Isa isa : cpu::UsableIsas()) names.push_back(cpu::Name(isa));
  return names;
}

}  // namespace

void DefineCpu(py::module_& m) {
  const std::vector<Parameter> of_processor = {
      {"num_threads", "int", "threads to use; the result does not depend on it",
       py::int_(1), true},
      {"isa", "str", R"("auto" or one of isas())", py::str("auto"), true}};
  DefinePass<ForwardBuffers>(
      m, ParametersOf<ForwardBuffers>("numpy.ndarray", of_processor),
      R"doc(Normalizes x.

x has dtype float16, bfloat16, float32 or float64. Parameters have the shape of the axes
([C] for group_norm) and dtype float32 (float64 for float64 x) or that of x, all the
same. Statistics have the shape of x without the axes ([N, groups] for group_norm) and
dtype float32 (float64 for float64 x). Everything else has the shape and dtype of x.)doc",
      R"doc(Returns:
    (y, sum or None, mean or None, rstd)

Raises:
    TypeError, ValueError: an argument does not fit; the message names it.
)doc",
      &RunPass<ForwardBuffers>);
  DefinePass<BackwardBuffers>(
      m, ParametersOf<BackwardBuffers>("numpy.ndarray", of_processor),
      "Gradients of forward.",
      R"doc(Returns:
    (dx, dgamma or None, dbeta or None); the gradient of the residual is dx.
)doc",
      &RunPass<BackwardBuffers>);
  DefinePass<SecondOrderBuffers>(
      m, ParametersOf<SecondOrderBuffers>("numpy.ndarray", of_processor),
      "Gradients of backward without activation.",
      R"doc(Returns:
    (d_dy, d_x, d_gamma or None, d_dmean or None, d_drstd). d_x is the total derivative,
    through mean and rstd as well; the gradient of dsum is ddx.
)doc",
      &RunPass<SecondOrderBuffers>);

  m.def(
      "isa", [] { return cpu::Name(cpu::DefaultIsa()); },
      "The instruction set in use; FUSEDNORM_ISA in the environment chooses another.");
  m.def("isas", &UsableIsaNames, "The instruction sets usable here, weakest first.");
}

}  // namespace fusednorm
