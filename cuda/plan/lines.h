// How blocks are laid over lines, for the planners of `tile` and `stream`.
#pragma once

#include <cstdint>

#include "cuda/kernels/lines/geometry.h"
#include "cuda/plan/planning.h"

namespace fusednorm {
namespace cuda {

// What a planner asks for.
struct LinesWanted {
  bool general = false;
  int threads = 0;           // threads of a block
  int64_t row_blocks = 1;    // fewest blocks that share the rows of a set
  int64_t set_bytes = 0;     // most bytes of x in a set, but tiles have 128 bytes
  int64_t shared_bytes = 0;  // most of a block, without what the scheme adds
};

struct LinesPlan {
  LinesGeometry geometry;
  int threads = 0;
  int64_t shared_bytes = 0;
};

// The shared memory of a block, in numbers of the compute type: for the constants of
// lanes, and for the table that joins the threads' moments or, in backward, their sums.
int64_t ConstantNumbers(const Work& work, const LinesGeometry& geometry);
int64_t TableNumbers(const Work& work, const LinesGeometry& geometry);

// Makes the plan, with fewer threads where shared memory is too small for more.
LinesPlan PlanLines(const Work& work, const LinesWanted& wanted);

}  // namespace cuda
}  // namespace fusednorm
