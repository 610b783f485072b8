// Functions of the module whose parameters are a table. pybind11 would take them from a
// C++ function's parameters, which cannot be made in a loop.
#pragma once

#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <string>
#include <type_traits>
#include <vector>

#include "python/errors.h"

namespace fusednorm {

struct Parameter {
  std::string name;
  std::string type;  // as help() and error messages show it
  std::string doc;
  py::object fallback = {};  // none: the argument must be given
  bool by_name = false;      // and not by its position; so are all after it
};

// The arguments of one call, as Python's own functions take them.
class Arguments {
 public:
  // Throws TypeError for what `function` does not take.
  Arguments(const std::string& function, const std::vector<Parameter>& parameters,
            const py::args& by_position, const py::kwargs& by_name);

  const py::object& operator[](const std::string& name) const;
  // The same as a C++ type. Throws TypeError if it is not of that.
  template <class T>
  T Get(const std::string& name) const {
    // A cast to a type of Python would make a new object of any other.
    if constexpr (std::is_base_of_v<py::object, T>) {
      if (!py::isinstance<T>((*this)[name])) ThrowTypeError(name);
    }
    try {
      return (*this)[name].cast<T>();
    } catch (const py::cast_error&) {
      ThrowTypeError(name);
    }
  }

 private:
  [[noreturn]] void ThrowTypeError(const std::string& name) const;
  size_t IndexOf(const std::string& name) const;

  const std::vector<Parameter>& parameters_;
  std::vector<py::object> values_;
};

// What help() shows: the signature, which tests/packaging/test_typing.py reads, the
// summary, the parameters, and the rest.
std::string Document(const std::string& function,
                     const std::vector<Parameter>& parameters,
                     const std::string& summary, const std::string& rest);

}  // namespace fusednorm
