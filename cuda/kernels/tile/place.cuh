// Which set a block has, and which rows of it.
#pragma once

#include "cuda/kernels/common/device.cuh"
#include "cuda/kernels/lines/place.cuh"
#include "cuda/kernels/tile/geometry.h"

namespace fusednorm {
namespace cuda {

struct TileBlock {
  int64_t set;
  int rank;            // among the blocks of the set
  int64_t begin, end;  // rows

  FUSEDNORM_DEVICE explicit TileBlock(const TileGeometry& geometry)
      : rank(device::ClusterRank()) {
    set = device::Block() / static_cast<uint32_t>(device::ClusterBlocks());
    const int64_t rows = geometry.lines.rows;
    begin = rank * geometry.slab_rows;
    end = begin + geometry.slab_rows;
    if (begin > rows) begin = rows;
    if (end > rows) end = rows;
  }
};

}  // namespace cuda
}  // namespace fusednorm
