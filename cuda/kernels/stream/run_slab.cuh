// A slab of a contiguous group: some whole runs of the group, or a piece of one run.
#pragma once

#include "cuda/kernels/common/args.h"
#include "cuda/kernels/common/number.cuh"
#include "cuda/kernels/stream/geometry.h"

namespace fusednorm {
namespace cuda {

// The runs of a slab that a thread takes, and its elements in each of them.
template <int kWidth>
struct RunPlace {
  int first_run, end_run, run_step;  // runs of the thread
  int piece;
  int count;         // accesses to each run
  int64_t at, step;  // the accesses are at elements at, at + step, ... of the run

  FUSEDNORM_DEVICE RunPlace(const RunStream& g, int slab) {
    const int turn = g.pieces.Divide(slab);
    piece = slab - turn * g.pieces.divisor();
    const int team = device::Thread() >> g.team_bits;
    const int member = device::Thread() & ((1 << g.team_bits) - 1);
    first_run = turn * g.slab_runs + team;
    end_run = (turn + 1) * g.slab_runs;
    if (end_run > g.runs) end_run = g.runs;
    run_step = device::Threads() >> g.team_bits;
    const int64_t begin = piece * g.piece;
    const int64_t left = g.run - begin;
    const int64_t elements = left < g.piece ? left : g.piece;
    at = begin + int64_t{member} * kWidth;
    step = int64_t{kWidth} << g.team_bits;
    const int64_t mine = elements - int64_t{member} * kWidth;
    count = mine > 0 ? static_cast<int>((mine + step - 1) / kWidth >> g.team_bits) : 0;
  }

  // The most runs that a team of the slab has.
  FUSEDNORM_DEVICE int Rounds(const RunStream& g, int slab) const {
    const int first = g.pieces.Divide(slab) * g.slab_runs;
    return (end_run - first + run_step - 1) / run_step;
  }
};

}  // namespace cuda
}  // namespace fusednorm
