// The sums of each lane, which shared memory holds for all threads of a block and which
// are added up over the rows of threads.
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
      : g_(g), size_(g.table.Size()), numbers_(offset) {}

  // For each lane of the part, one thread calls out(lane, sum of a, sum of b).
  template <class Out>
  FUSEDNORM_DEVICE void Join(const C (&a)[kWidth], const C (&b)[kWidth],
                             const LinePlace<kWidth>& place, const Out& out) const {
    if (place.row < g_.thread_rows.divisor()) {
#pragma unroll
      for (int e = 0; e < kWidth; ++e) {
        const int at = g_.table.At(place.row, e, place.column);
        numbers_.Set(at, a[e]);
        numbers_.Set(at + size_, b[e]);
      }
    }
    device::SyncBlock();
    const int team = 1 << g_.sum_bits;
    const int member = device::Thread() & (team - 1);
    // The loop has a step of one; with another step the compiler divides to find the
    // number of rounds.
    const int rounds = (g_.thread_rows.divisor() - member + team - 1) >> g_.sum_bits;
    const int step = g_.table.columns << g_.sum_bits;
#pragma unroll 1
    for (int first = 0; first < place.lanes;
         first += device::Threads() >> g_.sum_bits) {
      const int lane = first + (device::Thread() >> g_.sum_bits);
      C sum_a = 0, sum_b = 0;
      if (lane < place.lanes) {
        const uint32_t of_table = lane;
        int at = g_.table.At(member, of_table % kWidth, of_table / kWidth);
#pragma unroll 4
        for (int round = 0; round < rounds; ++round) {
          sum_a += numbers_.Get(at);
          sum_b += numbers_.Get(at + size_);
          at += step;
        }
      }
      sum_a = LaneSum(sum_a, team);
      sum_b = LaneSum(sum_b, team);
      if (lane < place.lanes && member == 0) out(lane, sum_a, sum_b);
    }
  }

 private:
  const LinesGeometry& g_;
  const int size_;  // of the table of one of the two sums
  const device::Shared<C> numbers_;
};

}  // namespace cuda
}  // namespace fusednorm
