// The `split_rows` scheme: slices of rows over the grid, which a second kernel reads
// again.
#pragma once

#include <cstdint>

namespace fusednorm {
namespace cuda {

constexpr int kBlockThreads = 512;  // of a block, at most: 128 registers each
// In the first kernel of backward a thread also has the columns of dgamma and dbeta in
// registers, and those set how many threads a block may have.
constexpr int ColumnThreads(int64_t element_bytes, int width) {
  return width == 1 || element_bytes == 8 ? 256 : element_bytes == 4 ? 384 : 512;
}
constexpr int ColumnVectors(int64_t element_bytes, int width) {
  return width == 1 ? (element_bytes == 8 ? 8 : 16) : element_bytes == 2 ? 2 : 4;
}

struct SplitRowsGeometry {
  static constexpr char kName[] = "split_rows";

  int width = 1;       // elements of an access
  int vectors = 0;     // accesses to a slice that a thread holds; 0: none are held
  int team = 1;        // second order: threads that share a slice
  int64_t slices = 1;  // of a row
  int64_t slice = 0;   // elements of one
  // Blocks that share the rows; in backward, rows of each sample that has gamma and
  // beta of its own.
  int64_t slots = 1;

  template <class Visit>
  void ForEach(Visit&& visit) const {
    visit("width", width);
    visit("vectors", vectors);
    visit("team", team);
    visit("slices", slices);
    visit("slice", slice);
    visit("slots", slots);
  }
};

}  // namespace cuda
}  // namespace fusednorm
