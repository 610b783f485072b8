// Element types in memory and in registers, and packs: the elements that one access
// moves.
#pragma once

#include <cstdint>

#include "core/portability.h"
#include "cuda/kernels/common/device.cuh"

#if defined(FUSEDNORM_EMULATE)
#include "emulation/half.h"
#else
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#endif

namespace fusednorm {
namespace cuda {

struct Half {
  uint16_t bits;
};
struct Bfloat16 {
  uint16_t bits;
};

// Compute is the type in which data stored as T is computed.
template <class T>
struct Number {
  typedef T Compute;
  FUSEDNORM_DEVICE static T ToCompute(T value) { return value; }
  FUSEDNORM_DEVICE static T FromCompute(T value) { return value; }
};

#if defined(FUSEDNORM_EMULATE)

template <>
struct Number<Half> {
  typedef float Compute;
  static float ToCompute(Half value) { return emulation::FloatOfHalf(value.bits); }
  static Half FromCompute(float value) { return {emulation::HalfOfFloat(value)}; }
  static uint32_t PairFromCompute(float low, float high) {
    return FromCompute(low).bits | uint32_t{FromCompute(high).bits} << 16;
  }
};
template <>
struct Number<Bfloat16> {
  typedef float Compute;
  static float ToCompute(Bfloat16 value) {
    return emulation::FloatOfBfloat16(value.bits);
  }
  static Bfloat16 FromCompute(float value) {
    return {emulation::Bfloat16OfFloat(value)};
  }
  static uint32_t PairFromCompute(float low, float high) {
    return FromCompute(low).bits | uint32_t{FromCompute(high).bits} << 16;
  }
};

#else

template <>
struct Number<Half> {
  typedef float Compute;
  FUSEDNORM_DEVICE static float ToCompute(Half value) {
    return __half2float(__ushort_as_half(value.bits));
  }
  FUSEDNORM_DEVICE static Half FromCompute(float value) {
    return {__half_as_ushort(__float2half_rn(value))};
  }
  FUSEDNORM_DEVICE static uint32_t PairFromCompute(float low, float high) {
    const __half2 pair = __floats2half2_rn(low, high);
    return __half_as_ushort(__low2half(pair)) |
           uint32_t{__half_as_ushort(__high2half(pair))} << 16;
  }
};
template <>
struct Number<Bfloat16> {
  typedef float Compute;
  FUSEDNORM_DEVICE static float ToCompute(Bfloat16 value) {
    return __uint_as_float(uint32_t{value.bits} << 16);
  }
  FUSEDNORM_DEVICE static Bfloat16 FromCompute(float value) {
    return {__bfloat16_as_ushort(__float2bfloat16_rn(value))};
  }
  FUSEDNORM_DEVICE static uint32_t PairFromCompute(float low, float high) {
    const __nv_bfloat162 pair = __floats2bfloat162_rn(low, high);
    return __bfloat16_as_ushort(__low2bfloat16(pair)) |
           uint32_t{__bfloat16_as_ushort(__high2bfloat16(pair))} << 16;
  }
};

#endif

// The number of elements of a 16-byte access.
template <class T>
constexpr int kFullWidth = 16 / static_cast<int>(sizeof(T));

// The number of elements of an access: 16 bytes of them in wide instances, one in
// others.
template <class T, class Features>
constexpr int kWidthOf = Features::kWide ? kFullWidth<T> : 1;

template <class T>
union WordsOf {
  device::Words words;
  T values[kFullWidth<T>];
};

// kWidth neighbouring elements as they are in memory: 16 bytes of them, or one element.
template <class T, int kWidth>
struct Pack {
  static_assert(kWidth == kFullWidth<T>, "16 bytes");
  typedef typename Number<T>::Compute Compute;
  // The type in which a pack is kept in shared memory.
  typedef device::Words Stored;
  Stored stored;

  FUSEDNORM_DEVICE static Pack Zero() { return {{{0, 0, 0, 0}}}; }
  FUSEDNORM_DEVICE static Pack LoadFrom(const T* at) { return {device::LoadWords(at)}; }
  FUSEDNORM_DEVICE static Pack LoadOnceFrom(const T* at) {
    return {device::LoadWordsOnce(at)};
  }
  FUSEDNORM_DEVICE static Pack LoadConstantFrom(const T* at) {
    return {device::LoadConstantWords(at)};
  }
  FUSEDNORM_DEVICE void StoreTo(T* at, bool stream) const {
    device::StoreWords(at, stored, stream);
  }

  FUSEDNORM_DEVICE void Get(Compute (&values)[kWidth]) const {
    if constexpr (sizeof(T) == 2) {
#pragma unroll
      for (int i = 0; i < kWidth; ++i) {
        const uint32_t word = stored.word[i / 2];
        const uint16_t bits = static_cast<uint16_t>(i % 2 == 0 ? word : word >> 16);
        values[i] = Number<T>::ToCompute(T{bits});
      }
    } else {
      WordsOf<T> both;
      both.words = stored;
#pragma unroll
      for (int i = 0; i < kWidth; ++i) values[i] = both.values[i];
    }
  }
  // Elements part * n to part * n + n - 1.
  template <int n>
  FUSEDNORM_DEVICE void GetPart(int part, Compute (&values)[n]) const {
    Compute all[kWidth];
    Get(all);
#pragma unroll
    for (int i = 0; i < n; ++i) values[i] = all[part * n + i];
  }
  template <int n>
  FUSEDNORM_DEVICE void SetPart(int part, const Compute (&values)[n]) {
    if constexpr (sizeof(T) == 2) {
#pragma unroll
      for (int i = 0; i < n / 2; ++i) {
        stored.word[part * n / 2 + i] =
            Number<T>::PairFromCompute(values[2 * i], values[2 * i + 1]);
      }
    } else {
      static_assert(n == kWidth, "all of it");
      *this = Of(values);
    }
  }
  FUSEDNORM_DEVICE static Pack Of(const Compute (&values)[kWidth]) {
    Pack pack;
    if constexpr (sizeof(T) == 2) {
#pragma unroll
      for (int i = 0; i < kWidth / 2; ++i) {
        pack.stored.word[i] =
            Number<T>::PairFromCompute(values[2 * i], values[2 * i + 1]);
      }
    } else {
      WordsOf<T> both;
#pragma unroll
      for (int i = 0; i < kWidth; ++i) both.values[i] = values[i];
      pack.stored = both.words;
    }
    return pack;
  }
};

template <class T>
struct Pack<T, 1> {
  typedef typename Number<T>::Compute Compute;
  typedef Compute Stored;  // the element itself
  Stored stored;

  FUSEDNORM_DEVICE static Pack Zero() { return {0}; }
  FUSEDNORM_DEVICE static Pack LoadFrom(const T* at) {
    return {Number<T>::ToCompute(device::Load(at))};
  }
  FUSEDNORM_DEVICE static Pack LoadOnceFrom(const T* at) { return LoadFrom(at); }
  FUSEDNORM_DEVICE void StoreTo(T* at, bool) const {
    device::Store(at, Number<T>::FromCompute(stored));
  }
  FUSEDNORM_DEVICE void Get(Compute (&values)[1]) const { values[0] = stored; }
  FUSEDNORM_DEVICE void GetPart(int, Compute (&values)[1]) const { Get(values); }
  FUSEDNORM_DEVICE void SetPart(int, const Compute (&values)[1]) { *this = Of(values); }
  FUSEDNORM_DEVICE static Pack Of(const Compute (&values)[1]) {
    return {Number<T>::ToCompute(Number<T>::FromCompute(values[0]))};
  }
};

// Rounds to the data's type. 16-bit elements have exact distances from such a number.
// Their distances from any other number would all be rounded in the same direction.
template <class T>
FUSEDNORM_DEVICE typename Number<T>::Compute Rounded(
    typename Number<T>::Compute value) {
  return Number<T>::ToCompute(Number<T>::FromCompute(value));
}

// a + b, rounded to the data's type.
template <class T, int kWidth>
FUSEDNORM_DEVICE Pack<T, kWidth> Sum(const Pack<T, kWidth>& a,
                                     const Pack<T, kWidth>& b) {
  typename Number<T>::Compute left[kWidth], right[kWidth];
  a.Get(left);
  b.Get(right);
#pragma unroll
  for (int i = 0; i < kWidth; ++i) left[i] += right[i];
  return Pack<T, kWidth>::Of(left);
}

// Adds up the numbers of an access in pairs, then in pairs of pairs. This takes as many
// additions as a chain, but its partial sums stay small. In a chain over 16-bit data,
// all roundings may go in the same direction (tests/support/bounds.py).
template <class C, int kWidth>
FUSEDNORM_DEVICE C PairwiseSum(const C (&values)[kWidth]) {
  C sums[kWidth];
#pragma unroll
  for (int e = 0; e < kWidth; ++e) sums[e] = values[e];
#pragma unroll
  for (int distance = 1; distance < kWidth; distance *= 2) {
#pragma unroll
    for (int e = 0; e + distance < kWidth; e += 2 * distance) {
      sums[e] += sums[e + distance];
    }
  }
  return sums[0];
}

}  // namespace cuda
}  // namespace fusednorm
