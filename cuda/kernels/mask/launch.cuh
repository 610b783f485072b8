// Starts the kernel that counts the visible positions of a mask.
#pragma once

#include "cuda/kernels/common/launch.cuh"
#include "cuda/kernels/kernels.h"
#include "cuda/kernels/mask/count.cuh"

namespace fusednorm {
namespace cuda {
namespace mask {

template <class T>
Status Start(const BackwardArgs& args, const Plan& plan, Stream stream) {
  return device::Launch(CountMask<T>, plan.launches[0], stream, args);
}

}  // namespace mask
}  // namespace cuda
}  // namespace fusednorm
