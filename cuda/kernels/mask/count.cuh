// The kernel that counts the visible positions of a mask. A backward kernel divides by
// their number.
#pragma once

#include "cuda/kernels/common/team.cuh"
#include "cuda/kernels/mask/mask.cuh"

namespace fusednorm {
namespace cuda {

// Each block counts one piece of a sample.
template <class T>
FUSEDNORM_KERNEL(256, 1)
CountMask(const BackwardArgs args) {
  typedef typename Number<T>::Compute C;
  const Mask& mask = args.mask;
  const int64_t pieces = mask.pieces.divisor();
  const int64_t sample = mask.pieces.Divide(device::Block());
  const int64_t length = mask.pieces.Divide(mask.sample + pieces - 1);
  const int64_t begin = (device::Block() - sample * pieces) * length;
  const int64_t end = begin + length < mask.sample ? begin + length : mask.sample;
  const uint8_t* positions = mask.positions + sample * mask.sample;
  C count = 0, none = 0;
#pragma unroll 8
  for (int64_t i = begin + device::Thread(); i < end; i += device::Threads()) {
    count += C(device::Load(positions + i) != 0);
  }
  SumBlock(&count, &none);
  if (device::Thread() == 0) {
    device::Store(static_cast<C*>(mask.counts) + device::Block(), count);
  }
}

}  // namespace cuda
}  // namespace fusednorm
