// How blocks lie over lines, for the planners of `tile` and `stream`.
#pragma once

#include <cstdint>

#include "cuda/kernels/lines/geometry.h"
#include "cuda/plan/planning.h"

namespace fusednorm {
namespace cuda {

// What a planner asks for.
struct LinesWanted {
  bool general = false;
  int threads = 0;           // of a block
  int64_t row_blocks = 1;    // blocks that share the rows of a set, at least
  int64_t set_bytes = 0;     // of x, at most, where tiles of 128 bytes allow it
  int64_t shared_bytes = 0;  // of a block, at most, beyond what the scheme adds
};

struct LinesPlan {
  LinesGeometry geometry;
  int threads = 0;
  int64_t shared_bytes = 0;
};

// Shared memory of a block, in numbers of the compute type: of the lanes' constants,
// and of the table that joins the threads' moments, or in backward their sums.
int64_t ConstantNumbers(const Work& work, const LinesGeometry& geometry);
int64_t TableNumbers(const Work& work, const LinesGeometry& geometry);

// The plan, with fewer threads where shared memory asks for that.
LinesPlan PlanLines(const Work& work, const LinesWanted& wanted);

}  // namespace cuda
}  // namespace fusednorm
