// How the threads of a block are laid over the lines of a tensor x[outer, rows, line],
// whose groups go across the rows. The schemes `tile` and `stream` share this.
//
// A thread takes one place in the line, `width` neighbouring elements (a *column*), and
// walks down the rows. The group of its elements is then the same in all rows, and so
// are gamma and beta if they belong to the place.
//
// - Interleaved groups: a group is `group_lanes` neighbouring elements of each row, and
//   gamma and beta belong to a place in the line. Where a row is not a whole number of
//   16-byte accesses, a line consists of `copies` rows, the fewest that are.
// - Columns (a middle axis is normalized): each place in the line is a group, and gamma
//   and beta belong to the row.
//
// A line is cut into *tiles* of whole groups. Only a group that is wider than a block
// is cut itself, into `parts` of its tile.
#pragma once

#include <cstdint>

#include "cuda/kernels/common/divider.h"
#include "cuda/kernels/lines/shared_layout.h"

namespace fusednorm {
namespace cuda {

struct LinesGeometry {
  int width = 1;           // elements of an access
  bool columns = false;    // each place in the line is a group
  bool positions = false;  // gamma and beta have the shape of x
  int copies = 1;          // rows of x in a line
  int64_t outer = 1;
  int64_t rows = 1;  // each of `line` elements
  int64_t line = 1;
  SmallDivider copy_lanes;   // lanes of a copy, if there are several copies
  SmallDivider group_lanes;  // lanes of a group; of a part, if a tile is cut
  int64_t groups = 1;        // groups of one outer
  Divider q;                 // lane i of a copy has gamma number i / Q
  Divider sample;            // so many successive `outer` are one sample
  int64_t params = 1;        // number of gammas of one sample
  int64_t samples = 1;       // samples with gamma and beta of their own

  int64_t tile_lanes = 1;
  int tile_groups = 1;
  Divider tiles;                // tiles of a line; the last one may have fewer lanes
  SmallDivider parts;           // parts of a tile
  int64_t part_lanes = 1;       // lanes of a part; of the tile, if it is not cut
  SmallDivider thread_columns;  // columns of a block's threads
  SmallDivider thread_rows;     // rows of a block's threads
  // Number of neighbouring elements of a column that belong to one group, a power of
  // two: 1 << fold_bits. The thread that has them joins their moments.
  int fold = 1;
  int fold_bits = 0;
  // The place of the threads' moments or sums in shared memory.
  LaneTable table;

  // A team of 1 << (lane_bits + row_bits) threads joins the numbers of one group in a
  // block. The lower bits of a thread's number choose rows of threads, the upper bits
  // lanes.
  int lane_bits = 0;
  int row_bits = 0;
  // 1 << sum_bits threads add up the sums of one lane.
  int sum_bits = 0;

  template <class Visit>
  void ForEach(Visit&& visit) const {
    visit("columns", columns);
    visit("copies", copies);
    visit("tiles", tiles.divisor());
    visit("tile_lanes", tile_lanes);
    visit("parts", parts.divisor());
    visit("thread_columns", thread_columns.divisor());
    visit("thread_rows", thread_rows.divisor());
  }
};

}  // namespace cuda
}  // namespace fusednorm
