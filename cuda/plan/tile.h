// The plans of problems whose groups lie across rows: interleaved groups and columns.
// Tiles with a mask are always split.
#pragma once

#include <vector>

#include "cuda/kernels/common/shared_layout.h"
#include "cuda/plan/planning.h"

namespace fusednorm {
namespace cuda {

// Adds what can compute the problem to the candidates, best first.
void AddTiles(const Work& work, std::vector<Plan>* plans);

// The tensor as lines.
struct Lines {
  int64_t outer, rows, line, groups, group_lanes;
  bool columns;

  explicit Lines(const NormProblem& problem);
};

// Cuts lines into the tiles that all passes take. Returns the threads of a block.
int CutTiles(const Work& work, const Lines& lines, TileGeometry* geometry);

}  // namespace cuda
}  // namespace fusednorm
