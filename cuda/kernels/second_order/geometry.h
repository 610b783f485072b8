// The second order. A first kernel leaves sums over slices of the groups. A second
// kernel adds them up and reads dy, x and ddx again.
#pragma once

#include <cstdint>

#include "core/portability.h"
#include "cuda/kernels/common/divider.h"

namespace fusednorm {
namespace cuda {

struct SecondOrderGeometry {
  static constexpr char kName[] = "second_order";

  // x is seen as [outer, rows, line]. A group has all rows of `group_lanes`
  // neighbouring elements of a line. Of these elements, each q share one gamma.
  int64_t outer = 1;
  int64_t rows = 1;
  int64_t line = 1;
  int64_t group_lanes = 1;
  Divider groups;     // groups of a line
  int64_t count = 1;  // number of all groups
  int64_t k = 1;      // gammas of a group
  Divider q;
  bool columns = false;  // a group is one lane wide, and each row has one gamma

  // How blocks divide the tensor. With `tiles`, a block takes some lanes of a line in
  // all rows. Otherwise there is one row, and groups are contiguous: either whole
  // (rows.cuh), or, with `runs`, as K runs of q elements (runs.cuh).
  bool tiles = false;
  bool runs = false;
  int width = 1;      // elements of an access
  Divider slices;     // slices of a group, each of which leaves its own sums
  int64_t slots = 1;  // teams, or blocks, that share the groups or `outer`

  // Only without `tiles`.
  int team = 1;       // threads that share a slice of a row, or a piece of a run
  Divider pieces;     // pieces of a run
  int64_t piece = 0;  // elements of a piece, or of a slice of a row

  // Only with `tiles`.
  int lanes = 1;        // lanes of a tile
  Divider lane_blocks;  // tiles of a line
  Divider parts;        // tiles that share a group, if a tile is narrower than a group
  int64_t slab_rows = 1;  // rows of a slice; the last slices may have fewer or none

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

constexpr int kThreads = 256;  // most threads of a block
// The number of accesses to a row for which a thread keeps the columns of d_gamma in
// registers.
FUSEDNORM_INLINE constexpr int Vectors(int64_t element_bytes, int width) {
  return width == 1 ? 8 : element_bytes == 2 ? 2 : 4;
}

// The places of a tile's sums in shared memory, in numbers of the compute type: two
// numbers for each lane of each thread row (TileSums), two for each lane, and kShares
// for each group.
constexpr int kShares = 6;
struct TileLayout {
  int64_t lane_sums, shares;
  FUSEDNORM_INLINE constexpr TileLayout(int64_t lanes, int64_t thread_rows)
      : lane_sums(2 * lanes * thread_rows), shares(lane_sums + 2 * lanes) {}
};

}  // namespace second_order
}  // namespace cuda
}  // namespace fusednorm
