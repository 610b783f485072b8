// fusednorm._native: the kernels without TensorFlow. For tests, benchmarks and whoever
// wants the numbers without a graph.
#include "python/module.h"

PYBIND11_MODULE(_native, m) {
  m.doc() =
      "The norm kernels without TensorFlow: on NumPy arrays, and in `cuda` on GPUs.";
  fusednorm::DefineCpu(m);
  fusednorm::DefineSignatures(m);
  fusednorm::DefinePlan(m);
  fusednorm::DefineCuda(m);
}
