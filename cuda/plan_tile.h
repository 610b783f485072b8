// The plans of problems whose groups lie across rows: interleaved groups and columns.
// Tiles with a mask are always split.
#pragma once

#include "cuda/planning.h"
#include "cuda/shared_layout.h"

namespace fusednorm {
namespace cuda {

void PlanTile(const Work& work, Plan* plan);

// The tensor as lines.
struct Lines {
  int64_t outer, rows, line, groups, group_lanes;
  bool columns;

  explicit Lines(const NormProblem& problem);
};

// Cuts lines into the tiles that all passes take. Returns the threads of a block.
int CutTiles(const Work& work, const Lines& lines, Plan* plan);

}  // namespace cuda
}  // namespace fusednorm
