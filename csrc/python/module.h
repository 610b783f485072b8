// The parts of fusednorm._native.
#pragma once

#include <pybind11/pybind11.h>

namespace fusednorm {

void DefineCpu(pybind11::module_& m);
void DefinePlan(pybind11::module_& m);
void DefineSignatures(pybind11::module_& m);
void DefineCuda(pybind11::module_& m);

}  // namespace fusednorm
