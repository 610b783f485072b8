// The set of a block, and the block's rows of it.
#pragma once

#include "cuda/kernels/common/device.cuh"
#include "cuda/kernels/lines/place.cuh"
#include "cuda/kernels/tile/geometry.h"

namespace fusednorm {
namespace cuda {

struct TileBlock {
  const int rank;  // number among the blocks of the set
  const LineSet set;
  int begin, end;  // rows of the block

  FUSEDNORM_DEVICE explicit TileBlock(const TileGeometry& geometry)
      : rank(device::ClusterRank()), set(SetOf(geometry)) {
    const int rows = static_cast<int>(geometry.lines.rows);
    begin = rank * geometry.slab_rows;
    end = begin + geometry.slab_rows;
    if (begin > rows) begin = rows;
    if (end > rows) end = rows;
  }

 private:
  FUSEDNORM_DEVICE static LineSet SetOf(const TileGeometry& geometry) {
    const int set = static_cast<int>(device::Block()) >> geometry.cluster_bits;
    const int outer = geometry.tiles.Divide(set);
    return LineSet(geometry.lines, outer, set - outer * geometry.tiles.divisor());
  }
};

// Calls visit(lane) in one thread for each lane. Most threads have one lane or none.
template <int kWidth, class Visit>
FUSEDNORM_DEVICE void VisitLanes(const LinePlace<kWidth>& place, const Visit& visit) {
#pragma unroll 1
  for (int lane = device::Thread(); lane < place.lanes; lane += device::Threads()) {
    visit(lane);
  }
}

}  // namespace cuda
}  // namespace fusednorm
