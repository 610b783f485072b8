// The loads and stores that a thread has in flight.
#pragma once

#include "cuda/kernels/common/number.cuh"

namespace fusednorm {
namespace cuda {

// Accesses from number `first` on of those that `place` says: `count` of them, `step`
// elements apart.
template <class T, int kWidth, int kVectors, class Place>
FUSEDNORM_DEVICE void LoadBatch(const T* from, int first, const Place& place,
                                Pack<T, kWidth> (&packs)[kVectors]) {
#pragma unroll
  for (int v = 0; v < kVectors; ++v) {
    packs[v] = first + v < place.count
                   ? Pack<T, kWidth>::LoadOnceFrom(from + (first + v) * place.step)
                   : Pack<T, kWidth>::Zero();
  }
}
template <class T, int kWidth, int kVectors, class Place>
FUSEDNORM_DEVICE void StoreBatch(T* to, int first, const Place& place,
                                 const Pack<T, kWidth> (&packs)[kVectors],
                                 bool stream) {
#pragma unroll
  for (int v = 0; v < kVectors; ++v) {
    if (first + v >= place.count) continue;
    packs[v].StoreTo(to + (first + v) * place.step, stream);
  }
}

}  // namespace cuda
}  // namespace fusednorm
