// Where the numbers of a block's threads lie in shared memory: for the kernels, which
// use it, and the plan, which asks for it.
#pragma once

#include "core/portability.h"

namespace fusednorm {
namespace cuda {

// A table of numbers, `each` of every thread, for joining over rows of threads. Number
// e of the thread at (row, column) is element row * row_pitch + e * pitch + column. A
// warp that writes number e of its threads, or that reads all the numbers of
// neighbouring columns, reaches each bank of shared memory once
// (tests/test_shared_banks.py): 32 numbers in a row are those of 32 / each columns, so
// `pitch` is an odd multiple of 32 / each; and a row of threads begins where the one
// before it would go on.
struct LaneTable {
  int each, pitch, row_pitch;

  FUSEDNORM_INLINE constexpr LaneTable() : LaneTable(1, 1, 1) {}
  FUSEDNORM_INLINE constexpr LaneTable(int each, int columns, int rows)
      : each(each), pitch(Pitch(each, columns)), row_pitch(each * pitch) {
    if (rows > 1) row_pitch += (columns % 32 - row_pitch % 32 + 32) % 32;
  }
  FUSEDNORM_INLINE constexpr int At(int row, int e, int column) const {
    return row * row_pitch + e * pitch + column;
  }
  // Numbers of so many rows.
  FUSEDNORM_INLINE constexpr int Size(int rows) const { return row_pitch * rows; }

 private:
  FUSEDNORM_INLINE static constexpr int Pitch(int each, int columns) {
    const int step = 32 / each;
    if (each == 1) return columns;
    int pitch = (columns + step - 1) / step * step;
    return pitch / step % 2 == 1 ? pitch : pitch + step;
  }
};

// What the lanes of a part need, for each lane: mean, rstd, gamma and beta, and in the
// gradient two terms of the group.
constexpr int kLaneConstants = 6;

}  // namespace cuda
}  // namespace fusednorm
