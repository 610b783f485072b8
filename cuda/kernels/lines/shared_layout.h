// The place of the numbers of a block's threads in shared memory. Kernels use this
// memory, and the plan asks for it.
#pragma once

#include "core/portability.h"

namespace fusednorm {
namespace cuda {

// A table with `each` numbers for every thread, which are joined over rows of threads.
// Number e of the thread at (row, column) is element
//   e * pitch + row * columns + column
// Shared memory has 32 banks, and a warp should reach each bank once
// (tests/cuda/test_shared_banks.py). It does so when its threads write number e, and
// when they read all numbers of neighbouring threads. In the second case, the warp
// reads the numbers of 32 / each threads, so `pitch` is an odd multiple of 32 / each.
struct LaneTable {
  int each, columns, pitch;

  FUSEDNORM_INLINE constexpr LaneTable() : LaneTable(1, 1, 1) {}
  FUSEDNORM_INLINE constexpr LaneTable(int each, int columns, int rows)
      : each(each), columns(columns), pitch(Pitch(each, rows * columns)) {}
  FUSEDNORM_INLINE constexpr int At(int row, int e, int column) const {
    return e * pitch + row * columns + column;
  }
  FUSEDNORM_INLINE constexpr int Size() const { return each * pitch; }

 private:
  FUSEDNORM_INLINE static constexpr int Pitch(int each, int threads) {
    const int step = 32 / each;
    if (each == 1) return threads;
    int pitch = (threads + step - 1) / step * step;
    return pitch / step % 2 == 1 ? pitch : pitch + step;
  }
};

// Numbers that each lane of a part needs: mean, rstd, gamma and beta, and in backward
// the two JoinedShares of its group.
constexpr int kLaneConstants = 6;

}  // namespace cuda
}  // namespace fusednorm
