// What the functions of all passes (forward, backward, second_order) have in common on
// all devices: their parameters, which the pass's Signature lists, and the problem that
// a call stands for.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "core/signature.h"
#include "python/arguments.h"
#include "python/spec.h"

namespace fusednorm {

// Whether a norm that has the operand must be given it.
inline bool IsRequired(const With& with) { return with.option == nullptr; }

// The attributes of a norm, all by name; without an activation also without parameters
// for each position.
std::vector<Parameter> AttributeParameters(bool has_activation);
// Their values.
Spec SpecOf(const Arguments& arguments, bool has_activation);

// What help() says of an operand.
template <class Buffers>
std::string Doc(const In<Buffers>& operand) {
  const char* const shape = operand.part == Part::kData ? ""
                            : operand.part == Part::kParams
                                ? "; of the shape of parameters"
                            : operand.part == Part::kMask
                                ? "; bool, of the shape of x without the channel axis"
                                : "; of the shape of statistics";
  const char* const norms =
      operand.with.norms == Norms::kCentred     ? ", None for rms_norm"
      : operand.with.norms == Norms::kGroupNorm ? ", for group_norm"
                                                : "";
  return std::string(operand.doc) + shape + norms;
}

template <class Buffers>
Parameter ParameterOf(const In<Buffers>& operand, const std::string& array) {
  Parameter parameter{operand.name, array, Doc(operand)};
  const bool may_be_none =
      !IsRequired(operand.with) || operand.with.norms != Norms::kAll;
  if (may_be_none && array != "object") parameter.type += " | None";
  if (!IsRequired(operand.with)) parameter.fallback = py::none();
  parameter.by_name = operand.with.came_later;
  return parameter;
}

// The parameters of a pass: the op; the operands that must be given; those that ops
// take as lists; the others; the attributes and, by name too, the operands that came
// later; then what only the device knows. `array` is the type of operands.
template <class Buffers>
std::vector<Parameter> ParametersOf(const std::string& array,
                                    const std::vector<Parameter>& of_device) {
  std::vector<Parameter> parameters = {
      {"op", "str", R"("group_norm", "layer_norm" or "rms_norm")"}};
  const auto add_operands = [&](auto&& wanted) {
    for (const In<Buffers>& operand : Signature<Buffers>::kInputs) {
      if (wanted(operand.with)) {
        parameters.push_back(ParameterOf<Buffers>(operand, array));
      }
    }
  };
  add_operands([](const With& with) { return IsRequired(with); });
  add_operands([](const With& with) { return with.length && !with.came_later; });
  add_operands([](const With& with) { return !IsRequired(with) && !with.length; });
  for (const Parameter& attribute :
       AttributeParameters(Signature<Buffers>::kHasActivation)) {
    parameters.push_back(attribute);
  }
  add_operands([](const With& with) { return with.came_later; });
  parameters.insert(parameters.end(), of_device.begin(), of_device.end());
  return parameters;
}

// What the problem has to know of an operand that a call gives. A mask has no type.
struct Given {
  Shape shape;
  std::optional<DataType> type;
};

// The problem of a call that gives `given`, for each input of the pass. Throws what
// Python is to see.
template <class Buffers>
Resolved Resolve(const Spec& spec, const std::vector<std::optional<Given>>& given) {
  const auto& inputs = Signature<Buffers>::kInputs;
  NormOptions options;
  Shape x;
  std::optional<DataType> param;
  for (size_t i = 0; i < given.size(); ++i) {
    if (!given[i]) continue;
    if (inputs[i].with.option != nullptr) options.*inputs[i].with.option = true;
    if (inputs[i].part == Part::kParams && !param) param = given[i]->type;
    if (inputs[i].buffer == &Buffers::x) {
      x = given[i]->shape;
      options.data = *given[i]->type;
    }
  }
  options.param = param.value_or(ComputeType(options.data));
  if (options.has_ddgamma && !options.has_gamma) {
    throw py::value_error("ddgamma must be None without gamma");
  }
  const Norm& norm = NormOf(spec.op);
  for (size_t i = 0; i < given.size(); ++i) {
    const With& with = inputs[i].with;
    const bool exists = Includes(with.norms, norm);
    if (given[i] && !exists) {
      throw py::value_error(std::string(inputs[i].name) + " must be None for " +
                            norm.name);
    }
    if (!given[i] && exists && IsRequired(with)) {
      throw py::value_error(std::string(inputs[i].name) + " must not be None");
    }
  }
  return Resolve(spec, x, options);
}

// Calls `run(arguments)` for a call of the pass's function.
template <class Buffers, class Run>
void DefinePass(py::module_& m, const std::vector<Parameter>& parameters,
                const std::string& summary, const std::string& rest, Run run) {
  constexpr const char* kName = Signature<Buffers>::kName;
  py::options options;
  options.disable_function_signatures();  // of args and kwargs
  m.def(
      kName,
      [parameters, run](const py::args& by_position, const py::kwargs& by_name) {
        return run(Arguments(kName, parameters, by_position, by_name));
      },
      Document(kName, parameters, summary, rest).c_str());
}

}  // namespace fusednorm
