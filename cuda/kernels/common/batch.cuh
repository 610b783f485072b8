// Loads and stores of several accesses at a time, so that a thread has many in flight.
#pragma once

#include "cuda/kernels/common/number.cuh"

namespace fusednorm {
namespace cuda {

// Loads accesses first, first + 1, ... of the thread's place, which has `count`
// accesses that are `step` elements apart. Accesses past `count` are zero. The address
// is advanced in bytes, because an address made from an index takes some instructions
// for each access.
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
