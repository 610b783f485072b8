// The `columns` scheme: backward of few long rows with one gamma for each element. One
// kernel sums pieces of rows; in a second one a block has some columns of all rows, so
// that dgamma and dbeta need no further stage.
#pragma once

#include <cstdint>

#include "cuda/kernels/common/divider.h"

namespace fusednorm {
namespace cuda {

constexpr int kColumnsThreads = 256;
// Rows that a thread of the second kernel has in flight.
constexpr int kColumnsRowsAtOnce = 4;
// Of a block that adds up partial sums of dgamma and dbeta.
constexpr int kColumnSumsThreads = 512;
// Numbers of each row that the second kernel keeps in shared memory.
constexpr int kRowConstants = 4;

struct ColumnsGeometry {
  static constexpr char kName[] = "columns";

  int width = 1;      // elements of an access
  Divider pieces;     // of a row, in the first kernel
  int64_t piece = 0;  // accesses of one

  template <class Visit>
  void ForEach(Visit&& visit) const {
    visit("width", width);
    visit("pieces", pieces.divisor());
    visit("piece", piece);
  }
};

}  // namespace cuda
}  // namespace fusednorm
