// Masks: which elements of an access the statistics are of, and how many positions of a
// sample. Only the general instances of `stream` take a mask.
#pragma once

#include "cuda/kernels/common/args.h"
#include "cuda/kernels/common/number.cuh"
#include "cuda/kernels/common/team.cuh"

namespace fusednorm {
namespace cuda {

// Bit e says whether the statistics are of element e of an access. The access begins at
// element `i` of a group's run over K and Q. `position` is the number of a row of Q
// elements of the mask.
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

// 1 / count, or 0 if the count is 0.
template <class C>
FUSEDNORM_DEVICE C Inverse(C count) {
  return count > C(0) ? C(1) / count : C(0);
}

// 1 / the number of elements that the statistics of a group are of.
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
