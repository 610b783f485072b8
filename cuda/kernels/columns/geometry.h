// The `columns` scheme: backward of rows with one gamma for each element that do not
// fit the registers of a block. A first kernel sums pieces of rows. In a second kernel,
// each block takes some columns of a chunk of rows. Few long rows form one chunk, and
// dgamma and dbeta are then complete. Several chunks leave partial sums. Where samples
// have gamma and beta of their own, all rows of a chunk are of one sample.
#pragma once

#include <cstdint>

#include "cuda/kernels/common/divider.h"

namespace fusednorm {
namespace cuda {

constexpr int kColumnsThreads = 256;
// The number of rows that a thread of the second kernel has in flight. The general
// instance needs its registers for other things.
template <bool general>
constexpr int kColumnsRowsAtOnce = general ? 1 : 4;
// Blocks of the second kernel that must fit the registers of a multiprocessor.
constexpr int kColumnsBlocks = 2;
// Threads of a block that adds up partial sums of dgamma and dbeta.
constexpr int kColumnSumsThreads = 512;
// Numbers of each row that the second kernel keeps in shared memory.
constexpr int kRowConstants = 4;

struct ColumnsGeometry {
  static constexpr char kName[] = "columns";

  int width = 1;  // elements of an access
  bool general = false;
  Divider pieces;          // pieces of a row, in the first kernel
  int64_t piece = 0;       // accesses of a piece
  int join_bits = 0;       // 1 << join_bits lanes add up the pieces of a row
  Divider column_blocks;   // blocks of a chunk, in the second kernel
  int64_t chunk_rows = 0;  // most rows of a chunk
  Divider chunks;          // chunks of the `sample_rows` rows that share gamma and beta
  int64_t sample_rows = 0;
  int64_t samples = 1;  // samples with gamma and beta of their own

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
