// The `stream` scheme: sets that do not fit a block are read twice in one launch, the
// second time from L2.
#pragma once

#include <cstdint>

#include "cuda/kernels/lines/geometry.h"
#include "cuda/kernels/stream/order.h"

namespace fusednorm {
namespace cuda {

constexpr int kStreamThreads = 256;  // most threads of a block
// The number of such blocks that must fit the registers of a multiprocessor.
// general_lines: backward of lines in the general instance.
constexpr int StreamBlocks(int64_t element_bytes, bool general_lines) {
  return element_bytes == 8 || (element_bytes == 2 && general_lines) ? 1 : 2;
}
// The number of accesses to each tensor that a thread of a plain instance has in
// flight.
constexpr int kStreamForwardVectors = 4;
constexpr int kStreamBackwardVectors = 2;

// How lines are cut into slabs: a slab is some rows of one part of a set.
struct LineStream {
  StreamOrder order;
  int64_t slab_rows = 1;
  int turns = 1;  // slabs of a part
  // A team of 1 << join_bits threads joins the slabs of a group. In backward, a team
  // has 1 << (join_bits + join_row_bits) threads, and the lower bits of a thread's
  // number choose slabs.
  int join_bits = 0;
  int join_row_bits = 0;
};

// How contiguous groups are cut into slabs. A group is `runs` runs, each of which has
// one gamma and beta, or one for each element. A slab is a piece of a run or some whole
// runs.
struct RunStream {
  StreamOrder order;
  int runs = 1;     // runs of a group
  int64_t run = 1;  // elements of a run
  SmallDivider pieces;
  int64_t piece = 1;      // elements of a piece, a multiple of an access
  int slab_runs = 1;      // runs of a slab; 1 if runs are cut into pieces
  int team_bits = 0;      // a team of 1 << team_bits threads shares a run
  bool along = false;     // each element has its own gamma and beta
  int join_row_bits = 0;  // backward: 1 << join_row_bits threads add up a run's pieces
};

struct StreamGeometry {
  static constexpr char kName[] = "stream";

  int width = 1;  // elements of an access
  bool general = false;
  bool by_runs = false;  // channels_first and long rows; otherwise by lines
  LinesGeometry lines;
  LineStream line_stream;
  RunStream run_stream;

  const StreamOrder& order() const {
    return by_runs ? run_stream.order : line_stream.order;
  }

  template <class Visit>
  void ForEach(Visit&& visit) const {
    visit("width", width);
    visit("general", general);
    visit("by_runs", by_runs);
    if (by_runs) {
      visit("runs", run_stream.runs);
      visit("pieces", run_stream.pieces.divisor());
      visit("slab_runs", run_stream.slab_runs);
      visit("team", 1 << run_stream.team_bits);
    } else {
      lines.ForEach(visit);
      visit("slab_rows", line_stream.slab_rows);
    }
    order().ForEach(visit);
  }
};

}  // namespace cuda
}  // namespace fusednorm
