// The loads and stores that a thread has in flight.
#pragma once

#include "cuda/kernels/common/number.cuh"

namespace fusednorm {
namespace cuda {

// Accesses from number `first` on of those that `place` says: `count` of them, `step`
// elements apart. Addresses are counted on in bytes: of an index each access would make
// a new one, at the cost of some instructions.
template <class T, int kWidth, int kVectors, class Place>
FUSEDNORM_DEVICE void LoadBatch(const T* from, int first, const Place& place,
                                Pack<T, kWidth> (&packs)[kVectors]) {
  const int64_t step = place.step * int64_t{sizeof(T)};
  const char* at = reinterpret_cast<const char*>(from) + first * step;
#pragma unroll
  for (int v = 0; v < kVectors; ++v) {
    packs[v] = first + v < place.count
                   ? Pack<T, kWidth>::LoadOnceFrom(reinterpret_cast<const T*>(at))
                   : Pack<T, kWidth>::Zero();
    at += step;
  }
}
template <class T, int kWidth, int kVectors, class Place>
FUSEDNORM_DEVICE void StoreBatch(T* to, int first, const Place& place,
                                 const Pack<T, kWidth> (&packs)[kVectors],
                                 bool stream) {
  const int64_t step = place.step * int64_t{sizeof(T)};
  char* at = reinterpret_cast<char*>(to) + first * step;
#pragma unroll
  for (int v = 0; v < kVectors; ++v) {
    if (first + v < place.count) packs[v].StoreTo(reinterpret_cast<T*>(at), stream);
    at += step;
  }
}

}  // namespace cuda
}  // namespace fusednorm
