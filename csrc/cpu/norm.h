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
// The instruction sets that this build has and this processor runs, weakest first.
std::vector<Isa> UsableIsas();
// The strongest usable instruction set, or the one that the environment variable
// FUSEDNORM_ISA names. The variable is read once.
Isa DefaultIsa();
Status IsaFromName(const std::string& name, Isa* isa);

// Computes y (and sum, mean, rstd) from x. Takes any problem that MakeGroupNorm or
// MakeAxesNorm accepts, empty ones included. Results depend neither on the number of
// threads nor on the instruction set.
Status Forward(const NormProblem& problem, const ForwardBuffers& buffers,
               const ParallelFor& parallel, Isa isa = DefaultIsa());

// Computes dx, dgamma and dbeta from dy and what forward kept.
Status Backward(const NormProblem& problem, const BackwardBuffers& buffers,
                const ParallelFor& parallel, Isa isa = DefaultIsa());

// Computes the gradients of Backward. Refuses a problem with an activation.
Status SecondOrder(const NormProblem& problem, const SecondOrderBuffers& buffers,
                   const ParallelFor& parallel, Isa isa = DefaultIsa());

}  // namespace cpu
}  // namespace fusednorm
