// Long rows: the row stays in shared memory, of a block or spread over a cluster.
#pragma once

#include "cuda/plan_rows.h"
#include "cuda/rows_backward.cuh"
#include "cuda/rows_forward.cuh"

namespace fusednorm {
namespace cuda {

template <class T, int kWidth>
FUSEDNORM_KERNEL(kBlockThreads, 1)
SharedRowsForward(const ForwardArgs args) {
  typedef BlockTeam<typename Number<T>::Compute> Team;
  ForwardHeldRows<T, kWidth, SharedRow<T, kWidth, 0>, Team>(args, Team::kSharedBytes);
}

// x and dy in shared memory leave the registers to the columns of dgamma and dbeta.
template <class T, int kWidth, int kVectors>
FUSEDNORM_KERNEL(kSharedColumnThreads, 1)
SharedRowsBackward(const BackwardArgs args) {
  typedef BlockTeam<typename Number<T>::Compute> Team;
  typedef SharedRow<T, kWidth, kVectors> Held;
  const int64_t bytes =
      int64_t{kVectors} * device::Threads() * sizeof(typename Pack<T, kWidth>::Stored);
  BackwardHeldRows<T, kWidth, Held, Team>(args, Team::kSharedBytes,
                                          Team::kSharedBytes + bytes);
}

}  // namespace cuda
}  // namespace fusednorm
