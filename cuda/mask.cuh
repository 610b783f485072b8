// Masks: which elements of an access the statistics are of, and how many of a sample's
// positions. Only the split variants take them.
#pragma once

#include "cuda/args.h"
#include "cuda/number.cuh"
#include "cuda/team.cuh"

namespace fusednorm {
namespace cuda {

// Bit e: the statistics are of element e of an access, which begins at element `i` of
// a group's run over K and Q. `position` counts the mask's rows of Q.
template <int kWidth>
FUSEDNORM_DEVICE uint32_t Kept(const Mask& mask, int64_t position, int64_t i) {
  if (mask.positions == nullptr) return ~uint32_t{0};
  const int64_t q = mask.q.divisor();
  const uint8_t* at = mask.positions + position * q;
  if (q == 1) return device::Load(at) != 0 ? ~uint32_t{0} : 0;
  int64_t column = mask.q.Remainder(i);
  uint32_t kept = 0;
#pragma unroll
  for (int e = 0; e < kWidth; ++e) {
    kept |= uint32_t{device::Load(at + column) != 0} << e;
    column = column + 1 == q ? 0 : column + 1;
  }
  return kept;
}

FUSEDNORM_DEVICE bool Has(uint32_t kept, int e) { return (kept >> e & 1) != 0; }

// 0 where there is nothing to divide by.
template <class C>
FUSEDNORM_DEVICE C Inverse(C count) {
  return count > C(0) ? C(1) / count : C(0);
}

// A block counts one piece of a sample.
template <class T>
FUSEDNORM_KERNEL(256, 1)
CountMask(const BackwardArgs args) {
  typedef typename Number<T>::Compute C;
  BlockTeam<C> team(args);
  const Mask& mask = args.mask;
  const int64_t pieces = mask.pieces.divisor();
  const int64_t sample = mask.pieces.Divide(device::Block());
  const int64_t length = mask.pieces.Divide(mask.sample + pieces - 1);
  const int64_t begin = (device::Block() - sample * pieces) * length;
  const int64_t end = begin + length < mask.sample ? begin + length : mask.sample;
  const uint8_t* positions = mask.positions + sample * mask.sample;
  C count = 0;
#pragma unroll 8
  for (int64_t i = begin + device::Thread(); i < end; i += device::Threads()) {
    count += C(device::Load(positions + i) != 0);
  }
  team.Sum(&count);
  if (device::Thread() == 0) {
    device::Store(static_cast<C*>(mask.counts) + device::Block(), count);
  }
}

// Of the elements that the statistics of a group are of.
template <class C>
FUSEDNORM_DEVICE C InverseCount(const BackwardArgs& args, int64_t group) {
  const Mask& mask = args.mask;
  if (mask.positions == nullptr) return static_cast<C>(args.inverse_count);
  const int64_t pieces = mask.pieces.divisor();
  const C* counts =
      static_cast<const C*>(mask.counts) + mask.groups.Divide(group) * pieces;
  C count = 0;
  for (int64_t piece = 0; piece < pieces; ++piece)
    count += device::Load(counts + piece);
  return Inverse(count * static_cast<C>(mask.channels));
}

}  // namespace cuda
}  // namespace fusednorm
