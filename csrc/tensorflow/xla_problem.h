// A NormProblem as the attributes of a custom call, which handlers read back. The HLO
// shows them.
#pragma once

#include <string>

#include "core/problem.h"

namespace fusednorm {

// Calls visit(name, field) for all there is in a problem; const or not.
template <class Problem, class Visitor>
void VisitFields(Problem& problem, Visitor&& visit) {
  visit("n", problem.n);
  visit("p", problem.p);
  visit("g", problem.g);
  visit("k", problem.k);
  visit("q", problem.q);
  visit("param_sets", problem.param_sets);
  visit("mask_n", problem.mask_n);
  visit("mask_q", problem.mask_q);
  visit("reduces_q", problem.reduces_q);
  visit("centred", problem.centred);
  visit("data", problem.data);
  visit("param", problem.param);
  visit("epsilon", problem.epsilon);
  visit("activation", problem.activation);
  visit("has_gamma", problem.has_gamma);
  visit("has_beta", problem.has_beta);
  visit("has_residual", problem.has_residual);
  visit("has_ddgamma", problem.has_ddgamma);
  visit("has_dstatistics", problem.has_dstatistics);
  visit("zero_centered", problem.zero_centered);
  visit("per_sample", problem.per_sample);
  visit("per_position", problem.per_position);
  visit("has_mask", problem.has_mask);
}

// MLIR's text of a dictionary attribute: {n = 2 : i64, centred = true, ...}.
std::string ToAttributes(const NormProblem& problem);

}  // namespace fusednorm
