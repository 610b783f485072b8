// How the kernels see a problem.
#pragma once

#include "core/param_sets.h"

namespace fusednorm {
namespace cuda {

// The same problem in its simplest form. Where groups are contiguous, parameters of
// each position become parameters along the rows of one sample that has all groups.
// This cannot be done with a mask, of which each sample has a part of its own.
inline NormProblem Simplified(NormProblem problem) {
  problem = Merged(problem);
  if (problem.per_position && problem.p == 1 && problem.reduces_q &&
      !problem.has_mask) {
    problem.g *= problem.n;
    problem.n = 1;
    problem.k *= problem.q;
    problem.q = 1;
    problem.per_position = false;
  }
  return problem;
}

}  // namespace cuda
}  // namespace fusednorm
