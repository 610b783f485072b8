// A problem with several sets of parameters consists of problems with one set each,
// which follow each other in memory. The CPU's kernels and the second order take only
// problems with one set.
#pragma once

#include <cstdint>
#include <type_traits>

#include "core/problem.h"
#include "core/signature.h"

namespace fusednorm {

// The same problem with one set of parameters, if possible: where the groups of all
// samples follow each other, they can be seen as the groups of one sample.
inline NormProblem Merged(NormProblem problem) {
  if (problem.param_sets == problem.n && problem.p == 1 && problem.reduces_q) {
    problem.g *= problem.n;
    problem.n = 1;
    problem.param_sets = 1;
  }
  return problem;
}

// The problem of one set of parameters. It must have at least one set.
inline NormProblem OfOneSet(NormProblem problem) {
  problem.n /= problem.param_sets;
  problem.mask_n /= problem.param_sets;
  problem.param_sets = 1;
  return problem;
}

template <class Buffers, class Pointer>
void Advance(const NormProblem& of_one_set, const Operand<Buffers, Pointer>& operand,
             int64_t set, Buffers* buffers) {
  using Bytes = std::conditional_t<std::is_same_v<Pointer, void*>, char*, const char*>;
  Pointer& buffer = buffers->*operand.buffer;
  if (buffer != nullptr) {
    buffer = static_cast<Bytes>(buffer) + set * BytesOf(of_one_set, operand.part);
  }
}

// The part of the buffers that belongs to a set.
template <class Buffers>
Buffers BuffersOf(const NormProblem& of_one_set, int64_t set, Buffers buffers) {
  for (const In<Buffers>& operand : Signature<Buffers>::kInputs) {
    Advance(of_one_set, operand, set, &buffers);
  }
  for (const Out<Buffers>& operand : Signature<Buffers>::kOutputs) {
    Advance(of_one_set, operand, set, &buffers);
  }
  return buffers;
}

}  // namespace fusednorm
