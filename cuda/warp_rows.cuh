// Short rows: a warp, or a power-of-two part of one, holds a row in registers; shuffles
// only. Several rows a warp where they are short, so that its loads stay contiguous.
#pragma once

#include "cuda/rows_backward.cuh"
#include "cuda/rows_forward.cuh"

namespace fusednorm {
namespace cuda {

template <class T, int kWidth, int kVectors>
FUSEDNORM_KERNEL(256, 1)
WarpRowsForward(const ForwardArgs args) {
  ForwardHeldRows<T, kWidth, RegisterRow<T, kWidth, kVectors>,
                  WarpTeam<typename Number<T>::Compute>>(args, 0);
}

template <class T, int kWidth, int kVectors>
FUSEDNORM_KERNEL(256, 1)
WarpRowsBackward(const BackwardArgs args) {
  BackwardHeldRows<T, kWidth, RegisterRow<T, kWidth, kVectors>,
                   WarpTeam<typename Number<T>::Compute>>(args, 0, 0);
}

}  // namespace cuda
}  // namespace fusednorm
