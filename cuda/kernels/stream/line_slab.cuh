// A slab of lines: the rows and the part of a set that a block has, its loads, and the
// place of its sums in the workspace.
#pragma once

#include "cuda/kernels/common/number.cuh"
#include "cuda/kernels/lines/place.cuh"
#include "cuda/kernels/mask/mask.cuh"
#include "cuda/kernels/stream/geometry.h"

namespace fusednorm {
namespace cuda {

template <int kWidth>
FUSEDNORM_DEVICE LinePlace<kWidth> PlaceOfSlab(const LinesGeometry& g,
                                               const LineStream& stream,
                                               const LineSet& set, int slab) {
  const int turn = g.parts.Divide(slab);
  const int64_t begin = turn * stream.slab_rows;
  const int64_t end = begin + stream.slab_rows;
  return LinePlace<kWidth>(g, set, slab - turn * g.parts.divisor(), begin,
                           end < g.rows ? end : g.rows);
}

// The elements of a thread's access number j that the statistics are of.
template <int kWidth>
FUSEDNORM_DEVICE uint32_t KeptOfAccess(const Mask& mask, const LinesGeometry& g,
                                       const LineSet& set,
                                       const LinePlace<kWidth>& place, int j) {
  const int64_t row = place.first_row + int64_t{j} * g.thread_rows.divisor();
  return Kept<kWidth>(mask, set.outer * g.rows + row, place.first_lane + place.lane);
}

}  // namespace cuda
}  // namespace fusednorm
