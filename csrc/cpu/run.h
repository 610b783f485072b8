// A pass on the CPU by the type of its buffers, for code that is the same for all.
#pragma once

#include "cpu/norm.h"

namespace fusednorm {
namespace cpu {

inline Status Run(const NormProblem& problem, const ForwardBuffers& buffers,
                  const ParallelFor& parallel, Isa isa = DefaultIsa()) {
  return Forward(problem, buffers, parallel, isa);
}
inline Status Run(const NormProblem& problem, const BackwardBuffers& buffers,
                  const ParallelFor& parallel, Isa isa = DefaultIsa()) {
  return Backward(problem, buffers, parallel, isa);
}
inline Status Run(const NormProblem& problem, const SecondOrderBuffers& buffers,
                  const ParallelFor& parallel, Isa isa = DefaultIsa()) {
  return SecondOrder(problem, buffers, parallel, isa);
}

}  // namespace cpu
}  // namespace fusednorm
