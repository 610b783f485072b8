// NumPy arrays in and out of the kernel API.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <string>

#include "core/data_type.h"
#include "python/errors.h"

namespace fusednorm {

// bfloat16 is known by name: it is ml_dtypes's, not NumPy's.
inline DataType DataTypeOf(const char* argument, const py::array& array) {
  return DataTypeFromName(argument, array.dtype().attr("name").cast<std::string>());
}

inline Shape ShapeOf(const py::array& array) {
  return {array.shape(), array.shape() + array.ndim()};
}

// A dense row-major array of the given shape and type.
inline py::array Dense(const char* argument, const py::array& array, const Shape& shape,
                       DataType type) {
  CheckArray(argument, ShapeOf(array), DataTypeOf(argument, array), shape, type);
  return py::array::ensure(array, py::array::c_style);
}

}  // namespace fusednorm
