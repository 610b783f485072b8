// From Status to Python's exceptions, and the words that messages share.
#pragma once

#include <pybind11/pybind11.h>

#include <cstdint>
#include <stdexcept>
#include <string>
#include <vector>

#include "core/data_type.h"
#include "core/status.h"

namespace fusednorm {

namespace py = pybind11;

using Shape = std::vector<int64_t>;

inline void ThrowIfError(const Status& status) {
  if (status.ok()) return;
  if (status.out_of_memory()) {
    py::set_error(PyExc_MemoryError, status.message().c_str());
    throw py::error_already_set();
  }
  if (status.internal()) throw std::runtime_error(status.message());
  throw py::value_error(status.message());
}

inline std::string ToString(const Shape& shape) {
  std::string text = "(";
  for (size_t i = 0; i < shape.size(); ++i) {
    text += (i == 0 ? "" : ", ") + std::to_string(shape[i]);
  }
  return text + (shape.size() == 1 ? ",)" : ")");
}

inline DataType DataTypeFromName(const std::string& argument, const std::string& name) {
  DataType type;
  if (DataTypeFromName(name, &type)) return type;
  throw py::value_error(
      argument + " must have dtype float16, bfloat16, float32 or float64, got " + name);
}

inline void CheckShape(const std::string& argument, const Shape& shape,
                       const Shape& expected) {
  if (shape == expected) return;
  throw py::value_error(argument + " must have shape " + ToString(expected) + ", got " +
                        ToString(shape));
}

inline void CheckArray(const std::string& argument, const Shape& shape,
                       const std::string& type, const Shape& expected_shape,
                       const std::string& expected_type) {
  CheckShape(argument, shape, expected_shape);
  if (type != expected_type) {
    throw py::value_error(argument + " must have dtype " + expected_type + ", got " +
                          type);
  }
}

inline void CheckArray(const std::string& argument, const Shape& shape, DataType type,
                       const Shape& expected_shape, DataType expected_type) {
  CheckArray(argument, shape, Name(type), expected_shape, Name(expected_type));
}

}  // namespace fusednorm
