// What the second-order kernels are compiled for.
#pragma once

#include <cstdint>

#include "core/portability.h"

namespace fusednorm {
namespace cuda {

constexpr int kSecondOrderThreads = 256;  // at most, of a block
// Accesses of a row whose columns of d_gamma a thread has in registers.
FUSEDNORM_INLINE constexpr int SecondOrderVectors(int64_t element_bytes, int width) {
  return width == 1 ? 8 : element_bytes == 2 ? 2 : 4;
}
// Numbers that a group contributes to its elements.
constexpr int kSecondOrderShares = 6;

}  // namespace cuda
}  // namespace fusednorm
