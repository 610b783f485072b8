#include "python/spec.h"

namespace fusednorm {

Resolved Resolve(const Spec& spec, const Operands& operands) {
  const bool is_group_norm = spec.op == "group_norm";
  if (!is_group_norm && spec.op != "layer_norm" && spec.op != "rms_norm") {
    throw py::value_error("op must be group_norm, layer_norm or rms_norm, got " +
                          spec.op);
  }
  NormOptions options;
  options.data = operands.data;
  options.param = operands.gamma  ? *operands.gamma
                  : operands.beta ? *operands.beta
                                  : ComputeType(options.data);
  options.epsilon = spec.epsilon;
  if (!ActivationFromName(spec.activation, &options.activation)) {
    throw py::value_error("activation must be one of " + ActivationNames() + ", got " +
                          spec.activation);
  }
  options.has_gamma = operands.gamma.has_value();
  options.has_beta = operands.beta.has_value();
  options.has_residual = operands.has_residual;
  options.zero_centered = spec.zero_centered;
  options.per_sample = spec.per_sample;
  options.per_position = spec.per_position;
  options.has_mask = operands.has_mask;

  Resolved resolved;
  NormShapes shapes;
  if (is_group_norm) {
    if (spec.axes.size() != 1) {
      throw py::value_error("axes must be the one channel axis for group_norm, got " +
                            std::to_string(spec.axes.size()) + " axes");
    }
    ThrowIfError(MakeGroupNorm(operands.shape, spec.axes[0], spec.groups, options,
                               &resolved.problem, &shapes));
  } else {
    const bool centred = spec.op == "layer_norm";
    if (!centred && operands.beta) {
      throw py::value_error("beta must be None for rms_norm");
    }
    ThrowIfError(MakeAxesNorm(operands.shape, spec.axes, centred, options,
                              &resolved.problem, &shapes));
  }
  resolved.params = shapes.params;
  resolved.statistics = shapes.statistics;
  resolved.mask = shapes.mask;
  return resolved;
}

void CheckMean(const NormProblem& problem, bool has_mean) {
  if (problem.centred == has_mean) return;
  throw py::value_error(problem.centred ? "mean must not be None"
                                        : "mean must be None for rms_norm");
}

void CheckSecondOrderArguments(const std::string& op, bool gamma, bool ddgamma,
                               bool ddbeta) {
  if (ddgamma && !gamma) throw py::value_error("ddgamma must be None without gamma");
  if (ddbeta && op == "rms_norm") {
    throw py::value_error("ddbeta must be None for rms_norm");
  }
}

}  // namespace fusednorm
