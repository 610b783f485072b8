// NumPy arrays in and out of the kernel API.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <optional>
#include <string>
#include <vector>

#include "core/data_type.h"
#include "core/status.h"

namespace fusednorm {

namespace py = pybind11;

inline void ThrowIfError(const Status& status) {
  if (status.ok()) return;
  if (status.out_of_memory()) throw std::bad_alloc();
  throw py::value_error(status.message());
}

// bfloat16 is known by name: it is ml_dtypes's, not NumPy's.
inline DataType DataTypeOf(const char* argument, const py::array& array) {
  const auto name = array.dtype().attr("name").cast<std::string>();
  for (const DataType type :
       {DataType::kFloat, DataType::kHalf, DataType::kBfloat16, DataType::kDouble}) {
    if (name == Name(type)) return type;
  }
  throw py::value_error(std::string(argument) +
                        " must have dtype float16, bfloat16, float32 or float64, got " +
                        name);
}

inline std::string ToString(const std::vector<py::ssize_t>& shape) {
  std::string text = "(";
  for (size_t i = 0; i < shape.size(); ++i) {
    text += (i == 0 ? "" : ", ") + std::to_string(shape[i]);
  }
  return text + (shape.size() == 1 ? ",)" : ")");
}

inline std::vector<py::ssize_t> ShapeOf(const py::array& array) {
  return {array.shape(), array.shape() + array.ndim()};
}

// A dense row-major array of the given shape and type.
inline py::array Dense(const char* argument, const py::array& array,
                       const std::vector<py::ssize_t>& shape, DataType type) {
  if (ShapeOf(array) != shape) {
    throw py::value_error(std::string(argument) + " must have shape " +
                          ToString(shape) + ", got " + ToString(ShapeOf(array)));
  }
  const DataType got = DataTypeOf(argument, array);
  if (got != type) {
    throw py::value_error(std::string(argument) + " must have dtype " + Name(type) +
                          ", got " + Name(got));
  }
  return py::array::ensure(array, py::array::c_style);
}

}  // namespace fusednorm
