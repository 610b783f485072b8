// The `runs` scheme: gradients of channels_first groups. A row is K runs of Q elements,
// which are cut into pieces; lanes of a warp share a piece.
#pragma once

#include <cstdint>

namespace fusednorm {
namespace cuda {

constexpr int kRunsThreads = 256;  // of a block, at most

struct RunsGeometry {
  static constexpr char kName[] = "runs";

  bool resident = false;  // rows stay in shared memory, and one kernel is enough
  int width = 1;          // elements of an access
  int team = 1;           // lanes that share a piece
  int64_t slices = 1;     // blocks that share a row: those of a cluster, if resident
  int64_t slice = 0;      // elements of a block's part in the second kernel
  int64_t pieces = 1;     // of a run
  int64_t piece = 0;      // elements of one
  int64_t slots = 1;      // second order: blocks that share the rows, for each slice

  template <class Visit>
  void ForEach(Visit&& visit) const {
    visit("resident", resident);
    visit("width", width);
    visit("team", team);
    visit("slices", slices);
    visit("slice", slice);
    visit("pieces", pieces);
    visit("piece", piece);
    visit("slots", slots);
  }
};

}  // namespace cuda
}  // namespace fusednorm
