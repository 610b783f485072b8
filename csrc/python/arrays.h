// NumPy arrays in and out of the kernel API.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <new>
#include <string>

#include "core/data_type.h"
#include "python/errors.h"

namespace fusednorm {

// bfloat16 is known by name: it is ml_dtypes's, not NumPy's.
inline std::string TypeNameOf(const py::array& array) {
  return array.dtype().attr("name").cast<std::string>();
}

inline DataType DataTypeOf(const char* argument, const py::array& array) {
  return DataTypeFromName(argument, TypeNameOf(array));
}

inline Shape ShapeOf(const py::array& array) {
  return {array.shape(), array.shape() + array.ndim()};
}

// A dense row-major array of the given shape and type.
inline py::array Dense(const char* argument, const py::array& array, const Shape& shape,
                       const std::string& type) {
  CheckArray(argument, ShapeOf(array), TypeNameOf(array), shape, type);
  return py::array::ensure(array, py::array::c_style);
}

// A new dense array, uninitialised, that begins at a cache line: NumPy's own are
// aligned to 16 bytes, and every other vector would then touch two lines.
inline py::array NewArray(const py::dtype& dtype, const Shape& shape) {
  constexpr std::align_val_t kLine{64};
  size_t bytes = dtype.itemsize();
  for (const int64_t size : shape) bytes *= size;
  void* const data = ::operator new(bytes, kLine);
  const py::capsule owner(data, [](void* memory) { ::operator delete(memory, kLine); });
  return py::array(dtype, shape, data, owner);
}

}  // namespace fusednorm
