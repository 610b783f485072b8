// The second order. A first kernel leaves sums over slices of the groups behind; a
// second one adds them up and reads dy, x and ddx again.
#pragma once

#include <cstdint>

#include "core/portability.h"
#include "cuda/kernels/common/divider.h"

namespace fusednorm {
namespace cuda {

struct SecondOrderGeometry {
  static constexpr char kName[] = "second_order";

  // x as [outer, rows, line]. A group is all rows of `group_lanes` neighbouring
  // elements of a line, and q of these have one gamma.
  int64_t outer = 1;
  int64_t rows = 1;
  int64_t line = 1;
  int64_t group_lanes = 1;
  Divider groups;     // of a line
  int64_t count = 1;  // of all groups
  int64_t k = 1;      // gammas of a group
  Divider q;
  bool columns = false;  // a group is one lane wide, and each row has one gamma

  // How blocks go through it: tiles are some lanes of a line, all the way down the
  // rows. Otherwise there is one row, and groups are contiguous: as they are
  // (rows.cuh), or as K runs of q elements (runs.cuh).
  bool tiles = false;
  bool runs = false;
  int width = 1;      // elements of an access
  Divider slices;     // of a group, each of which leaves its own sums
  int64_t slots = 1;  // teams, or blocks, that share the groups or `outer`

  // Of rows and runs.
  int team = 1;       // threads that share a slice of a row, or a piece of a run
  Divider pieces;     // of a run
  int64_t piece = 0;  // elements of one, or of a slice of a row

  // Of tiles.
  int lanes = 1;          // of a tile
  Divider lane_blocks;    // tiles of a line
  Divider parts;          // tiles of one group, where a tile does not hold one
  int64_t slab_rows = 1;  // of a slice; the last ones may have fewer or none

  template <class Visit>
  void ForEach(Visit&& visit) const {
    visit("tiles", tiles);
    visit("runs", runs);
    visit("width", width);
    visit("slices", slices.divisor());
    visit("slots", slots);
    if (tiles) {
      visit("lanes", lanes);
      visit("lane_blocks", lane_blocks.divisor());
      visit("parts", parts.divisor());
    } else {
      visit("team", team);
      visit("pieces", pieces.divisor());
      visit("piece", piece);
    }
  }
};

namespace second_order {

constexpr int kThreads = 256;  // of a block, at most
// Accesses of a row whose columns of d_gamma a thread has in registers.
FUSEDNORM_INLINE constexpr int Vectors(int64_t element_bytes, int width) {
  return width == 1 ? 8 : element_bytes == 2 ? 2 : 4;
}

// The shared memory of a tile: two numbers of each thread's lanes (TileSums), two of
// each lane, and six of each group. Offsets, in numbers of the compute type.
constexpr int kShares = 6;
struct TileLayout {
  int64_t lane_sums, shares;
  FUSEDNORM_INLINE constexpr TileLayout(int64_t lanes, int64_t thread_rows)
      : lane_sums(2 * lanes * thread_rows), shares(lane_sums + 2 * lanes) {}
};

}  // namespace second_order
}  // namespace cuda
}  // namespace fusednorm
