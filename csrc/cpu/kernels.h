// The kernels that kernels.cc provides for each instruction set and data type.
#pragma once

#include "core/parallel.h"
#include "core/problem.h"
#include "cpu/partition.h"

namespace fusednorm {
namespace cpu {

// These functions neither allocate nor fail. The problem must be valid and not empty.
// The workspace must have partition.workspace_bytes and be 8-byte aligned.
struct Kernels {
  void (*forward)(const NormProblem& problem, const Partition& partition,
                  const ForwardBuffers& buffers, const ParallelFor& parallel,
                  char* workspace);
  void (*backward)(const NormProblem& problem, const Partition& partition,
                   const BackwardBuffers& buffers, const ParallelFor& parallel,
                   char* workspace);
  void (*second_order)(const NormProblem& problem, const Partition& partition,
                       const SecondOrderBuffers& buffers, const ParallelFor& parallel,
                       char* workspace);
};

}  // namespace cpu
}  // namespace fusednorm
