// The `columns` scheme: backward of rows that fit no block's registers, with one gamma
// for each element. One kernel sums pieces of rows; in a second one a block has some
// columns of a chunk of the rows. Few long rows are one chunk: dgamma and dbeta need no
// further stage. Else each chunk leaves partial sums of them. Where samples have gamma
// and beta of their own, a chunk has rows of one sample.
#pragma once

#include <cstdint>

#include "cuda/kernels/common/divider.h"

namespace fusednorm {
namespace cuda {

constexpr int kColumnsThreads = 256;
// Rows that a thread of the second kernel has in flight: the general instance needs
// its registers for other things.
template <bool general>
constexpr int kColumnsRowsAtOnce = general ? 1 : 4;
// Blocks of the second kernel that find registers on a multiprocessor.
constexpr int kColumnsBlocks = 2;
// Of a block that adds up partial sums of dgamma and dbeta.
constexpr int kColumnSumsThreads = 512;
// Numbers of each row that the second kernel keeps in shared memory.
constexpr int kRowConstants = 4;

struct ColumnsGeometry {
  static constexpr char kName[] = "columns";

  int width = 1;  // elements of an access
  bool general = false;
  Divider pieces;          // of a row, in the first kernel
  int64_t piece = 0;       // accesses of one
  int join_bits = 0;       // 1 << join_bits lanes add up the pieces of a row
  Divider column_blocks;   // of a chunk, in the second kernel
  int64_t chunk_rows = 0;  // of one, at most
  Divider chunks;          // of the rows that share gamma and beta: `sample_rows`
  int64_t sample_rows = 0;
  int64_t samples = 1;  // with gamma and beta of their own

  template <class Visit>
  void ForEach(Visit&& visit) const {
    visit("width", width);
    visit("general", general);
    visit("pieces", pieces.divisor());
    visit("piece", piece);
    visit("column_blocks", column_blocks.divisor());
    visit("chunk_rows", chunk_rows);
    visit("chunks", chunks.divisor());
  }
};

}  // namespace cuda
}  // namespace fusednorm
