#include "python/spec.h"

namespace fusednorm {

const Norm& NormOf(const std::string& op) {
  for (const Norm& norm : kNorms) {
    if (norm.name == op) return norm;
  }
  throw py::value_error("op must be group_norm, layer_norm or rms_norm, got " + op);
}

Resolved Resolve(const Spec& spec, const Shape& x, NormOptions options) {
  const Norm& norm = NormOf(spec.op);
  options.epsilon = spec.epsilon;
  if (!ActivationFromName(spec.activation, &options.activation)) {
    throw py::value_error("activation must be one of " + ActivationNames() + ", got " +
                          spec.activation);
  }
  options.zero_centered = spec.zero_centered;
  options.per_sample = spec.per_sample;
  options.per_position = spec.per_position;

  Resolved resolved;
  NormShapes shapes;
  if (norm.is_group_norm) {
    if (spec.axes.size() != 1) {
      throw py::value_error("axes must be the one channel axis for group_norm, got " +
                            std::to_string(spec.axes.size()) + " axes");
    }
    ThrowIfError(MakeGroupNorm(x, spec.axes[0], spec.groups, options, &resolved.problem,
                               &shapes));
  } else {
    if (!norm.centred && options.has_beta) {
      throw py::value_error("beta must be None for rms_norm");
    }
    ThrowIfError(
        MakeAxesNorm(x, spec.axes, norm.centred, options, &resolved.problem, &shapes));
  }
  resolved.data = x;
  resolved.params = shapes.params;
  resolved.statistics = shapes.statistics;
  resolved.mask = shapes.mask;
  return resolved;
}

}  // namespace fusednorm
