// The `tile` scheme: a set fits the registers of a block, or of a cluster of blocks.
// Each tensor is read once and written once, in one launch.
#pragma once

#include <cstdint>

#include "core/portability.h"
#include "cuda/kernels/lines/geometry.h"

namespace fusednorm {
namespace cuda {

// The most threads of a block.
constexpr int kTileThreads = 512;
// The most blocks that share a set. So many are certain to be resident together.
constexpr int kTileCluster = 8;
// The number of accesses to each tensor that a thread holds. There is an instance for
// each of these; for columns only for the first.
constexpr int kTileVectors[] = {2, 4};

// The places of a block's numbers in shared memory, in numbers of the compute type. The
// constants of lanes come before them.
struct TileShared {
  int table = 0;      // the threads' moments or sums
  int lane_sums = 0;  // backward: two sums of each lane
  int own = 0;        // the block's numbers of each group, for its cluster
  int joined = 0;     // two numbers of each group
  int end = 0;
};

struct TileGeometry {
  static constexpr char kName[] = "tile";

  int width = 1;         // elements of an access
  int vectors = 1;       // most accesses to each tensor that a thread holds
  int cluster_bits = 0;  // 1 << cluster_bits blocks share a set
  int slab_rows = 1;     // rows of one block
  SmallDivider tiles;    // the same number as lines.tiles
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
