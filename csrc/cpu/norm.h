// The kernel API on the CPU.
#pragma once

#include <string>
#include <vector>

#include "core/parallel.h"
#include "core/problem.h"
#include "core/status.h"

namespace fusednorm {
namespace cpu {

enum class Isa { kBaseline, kAvx2, kAvx512 };

const char* Name(Isa isa);
// What this build has and this processor runs, weakest first.
std::vector<Isa> UsableIsas();
// The strongest usable one, or what the environment variable FUSEDNORM_ISA names. Read
// once.
Isa DefaultIsa();
Status IsaFromName(const std::string& name, Isa* isa);

// y (and sum, mean, rstd) from x. Any problem that MakeGroupNorm or MakeAxesNorm
// accepts, empty ones included. Results depend neither on threads nor on the
// instruction set.
Status Forward(const NormProblem& problem, const ForwardBuffers& buffers,
               const ParallelFor& parallel, Isa isa = DefaultIsa());

// dx, dgamma, dbeta from dy and what forward kept.
Status Backward(const NormProblem& problem, const BackwardBuffers& buffers,
                const ParallelFor& parallel, Isa isa = DefaultIsa());

// The gradients of Backward. Refuses an activation.
Status SecondOrder(const NormProblem& problem, const SecondOrderBuffers& buffers,
                   const ParallelFor& parallel, Isa isa = DefaultIsa());

}  // namespace cpu
}  // namespace fusednorm
