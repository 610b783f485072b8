// How the threads of a block lie over lines: a tensor as x[outer, rows, line], whose
// groups go across the rows. What the schemes `tile` and `stream` have in common.
//
// A thread has one place in the line, `width` neighbouring elements (a *column*), and
// walks down the rows. So what belongs to its elements, group, gamma and beta, stays
// the same from row to row.
//
// - Interleaved groups: a group is `group_lanes` neighbouring elements of each row, and
//   gamma and beta belong to a place in the line. Where a row is no whole number of
//   accesses of 16 bytes, a line is `copies` rows: as many as make one.
// - Columns (of a middle axis): each place in the line is a group, and gamma and beta
//   belong to the row.
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
  int64_t rows = 1;  // of `line` elements
  int64_t line = 1;
  SmallDivider copy_lanes;   // the lanes of a copy, where there are several
  SmallDivider group_lanes;  // of a group; in a tile that is cut, those of a part
  int64_t groups = 1;        // of one outer
  Divider q;                 // a place's gamma is number place / Q of the copy
  Divider sample;            // so many successive `outer` share gamma and beta,
  int64_t params = 1;        // `params` of each,
  int64_t samples = 1;       // in so many samples

  int64_t tile_lanes = 1;
  int tile_groups = 1;
  Divider tiles;                // of a line; the last one may have fewer lanes
  SmallDivider parts;           // of a tile
  int64_t part_lanes = 1;       // the lanes of a tile if there is one part
  SmallDivider thread_columns;  // of a block's threads,
  SmallDivider thread_rows;     // and their rows
  // Neighbouring elements of a column that are of one group, a power of two: their
  // moments are joined by the thread that has them. 1 << fold_bits.
  int fold = 1;
  int fold_bits = 0;
  // Where the threads' moments or sums lie in shared memory.
  LaneTable table;

  // A team of 1 << (lane_bits + row_bits) threads joins what the block has of a group:
  // it shares the group's lanes and, by the lower bits, the rows of threads.
  int lane_bits = 0;
  int row_bits = 0;
  // The same for the sum of one lane.
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
