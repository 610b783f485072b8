// Threads for callers that bring none of their own.
#pragma once

#include <cstdint>

#include "core/parallel.h"

namespace fusednorm {

// The calling thread and helpers that are started when first needed, then kept.
class ThreadsParallelFor : public ParallelFor {
 public:
  explicit ThreadsParallelFor(int num_threads) : num_threads_(num_threads) {}

  void Run(int64_t count, int64_t elements, Body body, void* context) const override;

 private:
  const int num_threads_;
};

}  // namespace fusednorm
