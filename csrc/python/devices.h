// cuda::Device as a dict.
#pragma once

#include <pybind11/pybind11.h>

#include "cuda/device/devices.h"

namespace fusednorm {

pybind11::dict ToDict(const cuda::Device& device);
// All fields must be there, and no other.
cuda::Device DeviceFromDict(const pybind11::dict& fields);

}  // namespace fusednorm
