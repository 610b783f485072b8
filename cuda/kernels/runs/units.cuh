// How the lanes of a block go through the runs of a channels_first group.
#pragma once

#include "cuda/kernels/common/args.h"
#include "cuda/kernels/common/device.cuh"

namespace fusednorm {
namespace cuda {

// The pieces of runs that a thread goes through, in rounds: all threads of a block make
// the same number.
template <int kWidth>
struct RunUnits {
  int64_t begin, end;  // units: run * pieces + piece
  int teams, team, lane, lanes;
  int accesses;  // of a lane to a unit, at most

  FUSEDNORM_DEVICE RunUnits(const NormArgs& args, int64_t part, const Divider& parts) {
    const int64_t units = args.rows.k * args.pieces.divisor();
    const int64_t share = parts.Divide(units + parts.divisor() - 1);
    begin = part * share < units ? part * share : units;
    end = begin + share < units ? begin + share : units;
    lanes = args.team;
    teams = device::Threads() / lanes;
    team = device::Thread() / lanes;
    lane = device::Thread() % lanes;
    accesses = static_cast<int>((args.piece + lanes * kWidth - 1) / (lanes * kWidth));
  }

  // function(run, first element of the thread's accesses in the row, their end, round)
  template <class Function>
  FUSEDNORM_DEVICE void ForEach(const NormArgs& args, const Function& function) const {
    const int64_t q = args.rows.q.divisor();
    int round = 0;
    for (int64_t first = begin; first < end; first += teams, ++round) {
      const int64_t unit = first + team;
      const int64_t run = args.pieces.Divide(unit);
      const int64_t inside = (unit - run * args.pieces.divisor()) * args.piece;
      const int64_t left = q - inside < args.piece ? q - inside : args.piece;
      const int64_t at = run * q + inside;
      function(unit, run, at + lane * kWidth, unit < end ? at + left : 0, round);
    }
  }
};

}  // namespace cuda
}  // namespace fusednorm
