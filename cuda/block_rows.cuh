// Medium rows: a block holds a row in registers, or a cluster of blocks does. One
// exchange through shared memory a sum, one more through the cluster's.
#pragma once

#include "cuda/plan_rows.h"
#include "cuda/rows_backward.cuh"
#include "cuda/rows_forward.cuh"

namespace fusednorm {
namespace cuda {

template <class T, int kWidth, int kVectors>
FUSEDNORM_KERNEL(kBlockThreads, 1)
BlockRowsForward(const ForwardArgs args) {
  ForwardHeldRows<T, kWidth, RegisterRow<T, kWidth, kVectors>,
                  BlockTeam<typename Number<T>::Compute>>(args, 0);
}

// x, dy and the columns of dgamma and dbeta take more registers.
template <class T, int kWidth, int kVectors>
FUSEDNORM_KERNEL(ColumnThreads(sizeof(T), kWidth), 1)
BlockRowsBackward(const BackwardArgs args) {
  BackwardHeldRows<T, kWidth, RegisterRow<T, kWidth, kVectors>,
                   BlockTeam<typename Number<T>::Compute>>(args, 0, 0);
}

}  // namespace cuda
}  // namespace fusednorm
