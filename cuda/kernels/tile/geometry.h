// The `tile` scheme: groups lie across the rows of x[outer, rows, line]. A tile is some
// lanes of a line, all the way down the rows; slabs cut it into blocks.
#pragma once

#include <cstdint>

namespace fusednorm {
namespace cuda {

struct TileGeometry {
  static constexpr char kName[] = "tile";

  bool resident = false;    // a group stays in the shared memory of a block or cluster
  int width = 1;            // elements of an access
  int64_t lanes = 0;        // of a tile
  int64_t lane_blocks = 1;  // tiles that a line is cut into
  int64_t parts = 1;        // tiles that a group wider than one is cut into
  int64_t slabs = 1;        // blocks that a tile's rows are cut into
  int64_t slots = 1;        // blocks that share `outer`

  template <class Visit>
  void ForEach(Visit&& visit) const {
    visit("resident", resident);
    visit("width", width);
    visit("lanes", lanes);
    visit("lane_blocks", lane_blocks);
    visit("parts", parts);
    visit("slabs", slabs);
    visit("slots", slots);
  }
};

}  // namespace cuda
}  // namespace fusednorm
