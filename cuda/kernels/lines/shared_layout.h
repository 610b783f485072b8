// Where the numbers of a block's threads lie in shared memory: for the kernels, which
// use it, and the plan, which asks for it.
#pragma once

#include "core/portability.h"

namespace fusednorm {
namespace cuda {

// A table of numbers, `each` of every thread, for joining over rows of threads. Number
// e of the thread at (row, column) is element e * pitch + row * columns + column. A
// warp that writes number e of its threads, or that reads all the numbers of
// neighbouring threads, reaches each bank of shared memory once
// (tests/cuda/test_shared_banks.py): 32 numbers in a row are those of 32 / each
// threads, so `pitch` is an odd multiple of 32 / each.
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

// What the lanes of a part need, for each lane: mean, rstd, gamma and beta, and in the
// gradient two terms of the group.
constexpr int kLaneConstants = 6;

}  // namespace cuda
}  // namespace fusednorm
