#include "python/arguments.h"

#include <algorithm>

namespace fusednorm {
namespace {

size_t NumByPosition(const std::vector<Parameter>& parameters) {
  const auto first = std::find_if(parameters.begin(), parameters.end(),
                                  [](const Parameter& each) { return each.by_name; });
  return static_cast<size_t>(first - parameters.begin());
}

std::string Repr(const py::handle& value) {
  return py::repr(value).cast<std::string>();
}

}  // namespace

Arguments::Arguments(const std::string& function,
                     const std::vector<Parameter>& parameters,
                     const py::args& by_position, const py::kwargs& by_name)
    : parameters_(parameters), values_(parameters.size()) {
  const size_t most = NumByPosition(parameters);
  if (by_position.size() > most) {
    throw py::type_error(function + "() takes at most " + std::to_string(most) +
                         " positional arguments, got " +
                         std::to_string(by_position.size()));
  }
  for (size_t i = 0; i < by_position.size(); ++i) values_[i] = by_position[i];
  for (const auto& [key, value] : by_name) {
    const std::string name = py::cast<std::string>(key);
    const size_t index = IndexOf(name);
    if (index == parameters.size()) {
      throw py::type_error(function + "() got an unexpected argument " + name);
    }
    if (values_[index]) {
      throw py::type_error(function + "() got two values for the argument " + name);
    }
    values_[index] = py::reinterpret_borrow<py::object>(value);
  }
  for (size_t i = 0; i < parameters.size(); ++i) {
    if (!values_[i]) values_[i] = parameters[i].fallback;
    if (!values_[i]) {
      throw py::type_error(function + "() is missing the argument " +
                           parameters[i].name);
    }
  }
}

const py::object& Arguments::operator[](const std::string& name) const {
  return values_.at(IndexOf(name));
}

size_t Arguments::IndexOf(const std::string& name) const {
  size_t index = 0;
  while (index < parameters_.size() && parameters_[index].name != name) ++index;
  return index;
}

void Arguments::ThrowTypeError(const std::string& name) const {
  throw py::type_error(name + " must be " + parameters_[IndexOf(name)].type + ", got " +
                       Repr((*this)[name]));
}

std::string Document(const std::string& function,
                     const std::vector<Parameter>& parameters,
                     const std::string& summary, const std::string& rest) {
  std::string signature, list;
  bool by_name = false;
  for (const Parameter& each : parameters) {
    if (!signature.empty()) signature += ", ";
    if (each.by_name && !by_name) signature += "*, ";
    by_name = each.by_name;
    signature += each.name + ": " + each.type;
    if (each.fallback) signature += " = " + Repr(each.fallback);
    list += "    " + each.name + ": " + each.doc + ".\n";
  }
  return function + "(" + signature + ") -> tuple\n\n" + summary + "\n\nArgs:\n" +
         list + "\n" + rest;
}

}  // namespace fusednorm
