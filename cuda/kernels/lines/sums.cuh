// The sums that a block's threads have of each lane, in shared memory: added up over
// the rows of threads.
#pragma once

#include "cuda/kernels/common/number.cuh"
#include "cuda/kernels/common/team.cuh"
#include "cuda/kernels/lines/place.cuh"
#include "cuda/kernels/lines/shared_layout.h"

namespace fusednorm {
namespace cuda {

template <class C, int kWidth>
class SumsTable {
 public:
  FUSEDNORM_DEVICE SumsTable(const LinesGeometry& g, int64_t offset)
      : g_(g),
        table_(kWidth, g.thread_columns.divisor(), g.thread_rows.divisor()),
        size_(table_.Size(g.thread_rows.divisor())),
        numbers_(offset) {}

  // out(lane of the part, sum of a, sum of b): called by one thread for each lane.
  template <class Out>
  FUSEDNORM_DEVICE void Join(const C (&a)[kWidth], const C (&b)[kWidth],
                             const LinePlace<kWidth>& place, const Out& out) const {
    if (place.row < g_.thread_rows.divisor()) {
#pragma unroll
      for (int e = 0; e < kWidth; ++e) {
        const int at = table_.At(place.row, e, place.column);
        numbers_.Set(at, a[e]);
        numbers_.Set(at + size_, b[e]);
      }
    }
    device::SyncBlock();
    const int team = 1 << g_.sum_bits;
    const int member = device::Thread() & (team - 1);
    for (int first = 0; first < place.lanes;
         first += device::Threads() >> g_.sum_bits) {
      const int lane = first + (device::Thread() >> g_.sum_bits);
      C sum_a = 0, sum_b = 0;
      if (lane < place.lanes) {
#pragma unroll 4
        for (int row = member; row < g_.thread_rows.divisor(); row += team) {
          const int at = table_.At(row, lane % kWidth, lane / kWidth);
          sum_a += numbers_.Get(at);
          sum_b += numbers_.Get(at + size_);
        }
      }
      sum_a = LaneSum(sum_a, team);
      sum_b = LaneSum(sum_b, team);
      if (lane < place.lanes && member == 0) out(lane, sum_a, sum_b);
    }
  }

 private:
  const LinesGeometry& g_;
  const LaneTable table_;
  const int64_t size_;
  const device::Shared<C> numbers_;
};

}  // namespace cuda
}  // namespace fusednorm
