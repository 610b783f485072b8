// The table of the compiled kernels of `rows`, whose geometry is a template argument.
// The planner chooses a line of it, and kernels/rows/launch.cuh instantiates the lines
// whose `element_bytes` is the size of the data type. cuda/kernels/rows/budgets.json
// limits what each specialised line may cost.
//
// A specialised instance knows at compile time whether the norm is centred and whether
// there is a residual (features.cuh), so each of its lines is four kernels. It has
// gamma and, where centred, beta, both in the compute type with one number for each
// element of a row. It has no activation, and its accesses are 16 bytes wide. The
// general instance takes all other problems.
#pragma once

#include <cstdint>

#include "core/portability.h"

namespace fusednorm {
namespace cuda {

struct RowsInstance {
  int element_bytes;
  bool general;
  bool wide;    // accesses are 16 bytes wide, not single elements
  int vectors;  // accesses to one row that a thread holds
  bool block;   // a block shares a row; otherwise lanes of a warp share it
  int threads;  // most threads of a block
  int blocks;   // blocks that have registers on one multiprocessor at a time
};

constexpr RowsInstance kRowsForward[] = {
    {2, false, true, 1, false, 128, 8}, {2, false, true, 2, false, 128, 8},
    {2, false, true, 3, false, 128, 8}, {2, false, true, 4, false, 128, 6},
    {2, false, true, 2, true, 128, 8},  {2, false, true, 4, true, 256, 4},
    {2, false, true, 6, true, 512, 2},  //
    {4, false, true, 1, false, 128, 8}, {4, false, true, 2, false, 128, 8},
    {4, false, true, 3, false, 128, 8}, {4, false, true, 4, false, 128, 6},
    {4, false, true, 2, true, 128, 8},  {4, false, true, 4, true, 256, 4},
    {4, false, true, 6, true, 512, 2},  //
    {2, true, true, 4, false, 256, 2},  {2, true, true, 6, true, 512, 1},
    {2, true, false, 4, false, 256, 2}, {2, true, false, 16, false, 256, 2},
    {2, true, false, 16, true, 512, 1},  //
    {4, true, true, 4, false, 256, 2},  {4, true, true, 6, true, 512, 1},
    {4, true, false, 4, false, 256, 2}, {4, true, false, 16, false, 256, 2},
    {4, true, false, 16, true, 512, 1},  //
    {8, true, true, 4, false, 256, 1},  {8, true, true, 6, true, 512, 1},
    {8, true, false, 4, false, 256, 1}, {8, true, false, 16, false, 256, 1},
    {8, true, false, 16, true, 512, 1},
};

// In backward a thread also keeps dgamma and dbeta of its columns in registers. For
// each access to 2-byte data it has twice as many columns.
constexpr RowsInstance kRowsBackward[] = {
    {2, false, true, 1, false, 256, 4}, {2, false, true, 2, false, 160, 4},
    {2, false, true, 3, false, 256, 2}, {2, false, true, 1, true, 128, 8},
    {2, false, true, 2, true, 256, 3},  {2, false, true, 4, true, 256, 2},
    {2, false, true, 3, true, 512, 1},  //
    {4, false, true, 1, false, 256, 4}, {4, false, true, 2, false, 256, 3},
    {4, false, true, 3, false, 160, 4}, {4, false, true, 1, true, 128, 8},
    {4, false, true, 2, true, 512, 2},  {4, false, true, 6, true, 512, 1},  //
    {2, true, true, 2, false, 192, 2},  {2, true, true, 2, true, 384, 1},
    {2, true, false, 4, false, 256, 2}, {2, true, false, 16, false, 192, 1},
    {2, true, false, 16, true, 256, 1},  //
    {4, true, true, 4, false, 192, 2},  {4, true, true, 4, true, 384, 1},
    {4, true, false, 4, false, 256, 2}, {4, true, false, 16, false, 192, 1},
    {4, true, false, 16, true, 256, 1},  //
    {8, true, true, 4, false, 192, 1},  {8, true, true, 4, true, 256, 1},
    {8, true, false, 4, false, 256, 1}, {8, true, false, 8, false, 192, 1},
    {8, true, false, 8, true, 256, 1},
};

// The line of an instance, which has the launch bounds of its kernel.
template <int kLines>
constexpr RowsInstance Find(const RowsInstance (&table)[kLines], int element_bytes,
                            bool general, bool wide, int vectors, bool block) {
  for (const RowsInstance& line : table) {
    if (line.element_bytes == element_bytes && line.general == general &&
        line.wide == wide && line.vectors == vectors && line.block == block) {
      return line;
    }
  }
  return {};  // no threads: a kernel without a line does not compile
}

// The most warps of a block, rounded up to a power of two.
constexpr int MostWarps(const RowsInstance& instance) {
  int warps = 1;
  while (32 * warps < instance.threads) warps *= 2;
  return warps;
}

// The number of rows that a thread of a forward kernel holds at the same time. Where a
// thread has only one access to a row, two rows keep enough loads in flight.
FUSEDNORM_INLINE constexpr int RowsAtOnce(bool general, int vectors, bool block) {
  return !general && !block && vectors == 1 ? 2 : 1;
}

}  // namespace cuda
}  // namespace fusednorm
