// What kernels.cc provides for each instruction set and data type.
#pragma once

#include "core/parallel.h"
#include "core/problem.h"
#include "cpu/partition.h"

namespace fusednorm {
namespace cpu {

// Neither allocates nor fails: the problem is valid and not empty, the workspace has
// partition.workspace_bytes, 8-byte aligned.
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
