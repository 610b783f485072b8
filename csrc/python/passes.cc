#include "python/passes.h"

namespace fusednorm {

std::vector<Parameter> AttributeParameters(bool has_activation) {
  const auto by_name = [](Parameter parameter, py::object fallback = {}) {
    parameter.fallback = std::move(fallback);
    parameter.by_name = true;
    return parameter;
  };
  std::vector<Parameter> parameters = {
      by_name({"axes", "collections.abc.Sequence[int]",
               "the channel axis for group_norm; else consecutive and increasing"}),
      by_name({"groups", "int", "for group_norm; -1 for one group per channel"},
              py::int_(0)),
      by_name({"epsilon", "float", "added to the variance (mean square)"}),
  };
  if (has_activation) {
    parameters.push_back(
        by_name({"activation", "str", "applied to the result"}, py::str("none")));
  }
  parameters.push_back(
      by_name({"zero_centered", "bool", "multiply by 1 + gamma"}, py::bool_(false)));
  parameters.push_back(by_name(
      {"per_sample", "bool", "gamma and beta have axis 0 of x before their other axes"},
      py::bool_(false)));
  if (has_activation) {
    parameters.push_back(
        by_name({"per_position", "bool", "gamma and beta have the shape of x"},
                py::bool_(false)));
  }
  return parameters;
}

Spec SpecOf(const Arguments& arguments, bool has_activation) {
  Spec spec;
  spec.op = arguments.Get<std::string>("op");
  spec.axes = arguments.Get<std::vector<int64_t>>("axes");
  spec.groups = arguments.Get<int64_t>("groups");
  spec.epsilon = arguments.Get<double>("epsilon");
  spec.zero_centered = arguments.Get<bool>("zero_centered");
  spec.per_sample = arguments.Get<bool>("per_sample");
  if (has_activation) {
    spec.activation = arguments.Get<std::string>("activation");
    spec.per_position = arguments.Get<bool>("per_position");
  }
  return spec;
}

}  // namespace fusednorm
