// The `tile` scheme: sets that fit the registers of a block, or of a cluster of blocks:
// each tensor is read once and written once, in one launch.
#pragma once

#include <cstdint>

#include "core/portability.h"
#include "cuda/kernels/lines/geometry.h"

namespace fusednorm {
namespace cuda {

// Threads of a block, at most.
constexpr int kTileThreads = 512;
// Blocks that share a set, at most: so many are sure to be resident together.
constexpr int kTileCluster = 8;
// Accesses that a thread holds of each tensor: there is an instance of each, for
// columns only of the first.
constexpr int kTileVectors[] = {2, 4};

// Where the numbers of a block stand in shared memory, in numbers of the compute type;
// the lanes' constants come first.
struct TileShared {
  int table = 0;      // of the threads' moments or sums
  int lane_sums = 0;  // backward: two of each lane
  int own = 0;        // what this block has of each group, for its cluster
  int joined = 0;     // two numbers of each group
  int end = 0;
};

struct TileGeometry {
  static constexpr char kName[] = "tile";

  int width = 1;         // elements of an access
  int vectors = 1;       // accesses of each tensor that a thread holds, at most
  int cluster_bits = 0;  // 1 << cluster_bits blocks share a set
  int slab_rows = 1;     // of one of them
  SmallDivider tiles;    // as lines.tiles
  LinesGeometry lines;
  TileShared shared;

  FUSEDNORM_INLINE int cluster() const { return 1 << cluster_bits; }

  template <class Visit>
  void ForEach(Visit&& visit) const {
    visit("width", width);
    visit("vectors", vectors);
    visit("slab_rows", slab_rows);
    lines.ForEach(visit);
  }
};

}  // namespace cuda
}  // namespace fusednorm
