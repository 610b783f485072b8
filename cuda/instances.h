// The table of what is compiled of the schemes whose geometry is a template argument.
// The planners choose from it, and kernels/rows/launch.cuh instantiates it, for each
// data type of these many bytes. cuda/kernels/rows/budgets.json has the cost of each
// specialised line.
//
// A specialised instance knows at compile time whether the norm is centred and whether
// there is a residual (features.cuh), so each of its lines is four kernels. It has
// gamma and, where centred, beta, of the compute type and one number for each element
// of a row, no activation, and accesses of 16 bytes. Everything else goes through the
// general instance.
#pragma once

#include <cstdint>

#include "core/portability.h"

namespace fusednorm {
namespace cuda {

struct RowsInstance {
  int element_bytes;
  bool general;
  bool wide;    // accesses of 16 bytes, not of single elements
  int vectors;  // accesses to a row that a thread holds
  bool block;   // a block shares a row; otherwise lanes of a warp do
  int threads;  // of a block, at most,
  int blocks;   // so many of which find registers on a multiprocessor
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

// In backward a thread also has the columns of dgamma and dbeta in registers: with
// 2-byte data twice as many for each access.
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

// The line of an instance, for the launch bounds of its kernel.
template <int kLines>
constexpr RowsInstance Find(const RowsInstance (&table)[kLines], int element_bytes,
                            bool general, bool wide, int vectors, bool block) {
  for (const RowsInstance& line : table) {
    if (line.element_bytes == element_bytes && line.general == general &&
        line.wide == wide && line.vectors == vectors && line.block == block) {
      return line;
    }
  }
  return {};  // no threads: a kernel that stands in no line does not compile
}

// Warps of a block, at most, rounded up to a power of two.
constexpr int MostWarps(const RowsInstance& instance) {
  int warps = 1;
  while (32 * warps < instance.threads) warps *= 2;
  return warps;
}

// Rows that a thread of a forward kernel holds at the same time. With one access to a
// row, two keep enough loads in flight.
FUSEDNORM_INLINE constexpr int RowsAtOnce(bool general, int vectors, bool block) {
  return !general && !block && vectors == 1 ? 2 : 1;
}

}  // namespace cuda
}  // namespace fusednorm
