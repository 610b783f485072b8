// The plans of problems whose groups are contiguous rows (P = 1). Rows with a mask are
// always split.
#pragma once

#include "cuda/planning.h"

namespace fusednorm {
namespace cuda {

void PlanRowsForward(const Work& work, Plan* plan);
void PlanRowsBackward(const Work& work, Plan* plan);
// Cuts runs of channels_first groups into pieces, and says how many lanes take one.
void CutRuns(const Work& work, Plan* plan);

// The thresholds that kernels are compiled for.
constexpr int kBlockThreads = 512;  // at most, of a block of rows: 128 registers each
// Accesses that a thread holds in forward, of 16 bytes:
constexpr int kWarpVectors = 8;  // 1, 2, 4 or 8
constexpr int kBlockVectors = 4;
// and of single elements.
constexpr int kFewScalars = 4;    // in short rows
constexpr int kManyScalars = 16;  // else
// In backward a thread also has the columns of dgamma and dbeta, in registers, and
// those set how many threads a block may have: 16 columns (8 of float64) where x and dy
// are in registers too, 40 (16) where they are in shared memory.
constexpr int ColumnThreads(int64_t element_bytes, int width) {
  return width == 1 || element_bytes == 8 ? 256 : element_bytes == 4 ? 384 : 512;
}
constexpr int ColumnVectors(int64_t element_bytes, int width) {
  return width == 1 ? (element_bytes == 8 ? 8 : 16) : element_bytes == 2 ? 2 : 4;
}
constexpr int kSharedColumnThreads = 256;
constexpr int SharedColumnVectors(int64_t element_bytes, int width) {
  return width == 1           ? (element_bytes == 8 ? 16 : 20)
         : element_bytes == 2 ? 5
         : element_bytes == 4 ? 10
                              : 8;
}
constexpr int kRunsThreads = 256;

}  // namespace cuda
}  // namespace fusednorm
