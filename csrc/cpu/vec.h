// SIMD vectors of 64 bytes: 16 floats or 8 doubles on every instruction set. One source
// serves all sets and, with -ffp-contract=off, gives the same bits on all. wide.h makes
// the vectors of the available registers.
//
// Included only by kernels.cc, inside its per-instruction-set namespace.
#pragma once

FUSEDNORM_INLINE int64_t Min(int64_t a, int64_t b) { return a < b ? a : b; }
FUSEDNORM_INLINE int64_t Max(int64_t a, int64_t b) { return a < b ? b : a; }

struct FloatVector {
  typedef Wide<float, 16> V;
  typedef Wide<int32_t, 16> Mask;
  typedef float Scalar;
  static constexpr int64_t kLanes = 16;
  static FUSEDNORM_INLINE V Splat(double value) {
    return SplatTo<V>(static_cast<float>(value));
  }
  static FUSEDNORM_INLINE V Select(Mask mask, V yes, V no) {
    return SelectLanes(mask, yes, no);
  }
  // A mask with all bits set in the first `count` lanes.
  static FUSEDNORM_INLINE Mask First(int64_t count) {
    constexpr int32_t kLane[] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
    return Read<Mask>(kLane) < static_cast<int32_t>(count);
  }
};

struct DoubleVector {
  typedef Wide<double, 8> V;
  typedef Wide<int64_t, 8> Mask;
  typedef double Scalar;
  static constexpr int64_t kLanes = 8;
  static FUSEDNORM_INLINE V Splat(double value) { return SplatTo<V>(value); }
  static FUSEDNORM_INLINE V Select(Mask mask, V yes, V no) {
    return SelectLanes(mask, yes, no);
  }
  static FUSEDNORM_INLINE Mask First(int64_t count) {
    constexpr int64_t kLane[] = {0, 1, 2, 3, 4, 5, 6, 7};
    return Read<Mask>(kLane) < count;
  }
};

// How many elements a vector operation covers: all lanes, or the first few of a tail.
template <class Vec>
struct Full {
  static constexpr int64_t count = Vec::kLanes;
};
struct Partial {
  int64_t count;
};

typedef Wide<uint16_t, 16> U16x16;
typedef Wide<uint32_t, 16> U32x16;

// Converts 16 integers of 16 bits to 32 bits (Widen) or back (Narrow). One instruction
// does that where the compiler would work in halves.
FUSEDNORM_INLINE U32x16 Widen(U16x16 narrow) {
#if defined(__AVX512F__)
  return BitCast<U32x16>(_mm512_maskz_cvtepu16_epi32(0xffff, BitCast<__m256i>(narrow)));
#else
  return ConvertTo<U32x16>(narrow);
#endif
}
FUSEDNORM_INLINE U16x16 Narrow(U32x16 wide) {
#if defined(__AVX512F__)
  return BitCast<U16x16>(_mm512_maskz_cvtepi32_epi16(0xffff, BitCast<__m512i>(wide)));
#else
  return ConvertTo<U16x16>(wide);
#endif
}

// The storage types: how elements in memory become a vector, and back.
struct FloatData {
  typedef float Storage;
  typedef FloatVector Vec;
  typedef Vec::V Packed;
  static FUSEDNORM_INLINE Vec::V Unpack(Packed packed) { return packed; }
  static FUSEDNORM_INLINE Packed Pack(Vec::V value) { return value; }
};

struct DoubleData {
  typedef double Storage;
  typedef DoubleVector Vec;
  typedef Vec::V Packed;
  static FUSEDNORM_INLINE Vec::V Unpack(Packed packed) { return packed; }
  static FUSEDNORM_INLINE Packed Pack(Vec::V value) { return value; }
};

struct Bfloat16Data {
  typedef uint16_t Storage;
  typedef FloatVector Vec;
  typedef U16x16 Packed;
  static FUSEDNORM_INLINE Vec::V Unpack(Packed packed) {
    return BitCast<Vec::V>(Widen(packed) << 16);
  }
  // Rounds to nearest, ties to even. NaN becomes a quiet NaN instead of rounding up to
  // infinity.
  static FUSEDNORM_INLINE Packed Pack(Vec::V value) {
    const U32x16 bits = BitCast<U32x16>(value);
    const U32x16 rounded = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
    const U32x16 quiet = (bits >> 16) | 0x40;
    return Narrow(SelectLanes(value == value, rounded, quiet));
  }
};

struct HalfData {
  typedef uint16_t Storage;
  typedef FloatVector Vec;
  typedef U16x16 Packed;
#if defined(__AVX512F__)
  static FUSEDNORM_INLINE Vec::V Unpack(Packed packed) {
    return BitCast<Vec::V>(_mm512_maskz_cvtph_ps(0xffff, BitCast<__m256i>(packed)));
  }
  static FUSEDNORM_INLINE Packed Pack(Vec::V value) {
    return BitCast<Packed>(_mm512_maskz_cvtps_ph(0xffff, BitCast<__m512>(value),
                                                 _MM_FROUND_TO_NEAREST_INT));
  }
#elif defined(__F16C__)
  static FUSEDNORM_INLINE Vec::V Unpack(Packed packed) {
    const __m256i all = BitCast<__m256i>(packed);
    typedef decltype(Vec::V::low) Half;
    return {BitCast<Half>(_mm256_cvtph_ps(_mm256_castsi256_si128(all))),
            BitCast<Half>(_mm256_cvtph_ps(_mm256_extracti128_si256(all, 1)))};
  }
  static FUSEDNORM_INLINE Packed Pack(Vec::V value) {
    constexpr int kNearest = _MM_FROUND_TO_NEAREST_INT;
    return BitCast<Packed>(
        _mm256_set_m128i(_mm256_cvtps_ph(BitCast<__m256>(value.high), kNearest),
                         _mm256_cvtps_ph(BitCast<__m256>(value.low), kNearest)));
  }
#else
  // Uses integer arithmetic and never makes a float32 subnormal. TensorFlow's threads
  // flush those to zero, and a float16 subnormal must survive.
  static FUSEDNORM_INLINE_IF_FAST Vec::V Unpack(Packed packed) {
    const U32x16 half = ConvertTo<U32x16>(packed);
    const U32x16 sign = (half & 0x8000) << 16;
    const U32x16 magnitude = (half & 0x7fff) << 13;
    const U32x16 exponent = magnitude & 0x0f800000;
    // 2^-14 has the exponent field 113. A subnormal is (2^-14 + fraction) - 2^-14.
    const U32x16 smallest = SplatTo<U32x16>(113u << 23);
    const U32x16 normal = magnitude + (112u << 23);
    const U32x16 infinite = magnitude + (224u << 23);
    const U32x16 subnormal = BitCast<U32x16>(BitCast<Vec::V>(magnitude + smallest) -
                                             BitCast<Vec::V>(smallest));
    U32x16 bits = SelectLanes(exponent == 0x0f800000, infinite, normal);
    bits = SelectLanes(exponent == 0, subnormal, bits);
    return BitCast<Vec::V>(bits | sign);
  }
  static FUSEDNORM_INLINE_IF_FAST Packed Pack(Vec::V value) {
    const U32x16 all = BitCast<U32x16>(value);
    const U32x16 sign = all & 0x80000000u;
    const U32x16 bits = all ^ sign;
    // Adding 0.5 moves the bits of a subnormal result to the bottom, rounded to even.
    const U32x16 half = SplatTo<U32x16>(126u << 23);
    const U32x16 subnormal =
        BitCast<U32x16>(BitCast<Vec::V>(bits) + BitCast<Vec::V>(half)) - half;
    const U32x16 odd = (bits >> 13) & 1;
    const U32x16 normal = (bits - (112u << 23) + 0xfff + odd) >> 13;
    U32x16 result = SelectLanes(bits < (113u << 23), subnormal, normal);
    // From 65520 on the result is infinity. NaN keeps the upper bits of its payload and
    // becomes quiet, as with the conversion instructions.
    result = SelectLanes(bits >= 0x477ff000u, SplatTo<U32x16>(0x7c00u), result);
    result = SelectLanes(bits > 0x7f800000u, ((bits >> 13) & 0x3ff) | 0x7e00, result);
    return ConvertTo<Packed>(result | (sign >> 16));
  }
#endif
};

template <class Data>
FUSEDNORM_INLINE typename Data::Vec::V Load(const typename Data::Storage* from,
                                            Full<typename Data::Vec>) {
  return Data::Unpack(Read<typename Data::Packed>(from));
}

// Loads and stores the first `count` elements; a load makes the others zero. Some
// processors have instructions for that, the others go through memory.
#if defined(__AVX512F__)
FUSEDNORM_INLINE __mmask16 FirstOf16(int64_t count) {
  return static_cast<__mmask16>((1u << count) - 1);
}
FUSEDNORM_INLINE Wide<float, 16> ReadFirst(const float* from, int64_t count) {
  return BitCast<Wide<float, 16>>(_mm512_maskz_loadu_ps(FirstOf16(count), from));
}
FUSEDNORM_INLINE void WriteFirst(float* to, Wide<float, 16> value, int64_t count) {
  _mm512_mask_storeu_ps(to, FirstOf16(count), BitCast<__m512>(value));
}
FUSEDNORM_INLINE U16x16 ReadFirst(const uint16_t* from, int64_t count) {
  return BitCast<U16x16>(_mm256_maskz_loadu_epi16(FirstOf16(count), from));
}
FUSEDNORM_INLINE void WriteFirst(uint16_t* to, U16x16 value, int64_t count) {
  _mm256_mask_storeu_epi16(to, FirstOf16(count), BitCast<__m256i>(value));
}
#elif defined(__AVX2__)
FUSEDNORM_INLINE Wide<float, 16> ReadFirst(const float* from, int64_t count) {
  const FloatVector::Mask mask = FloatVector::First(count);
  typedef decltype(Wide<float, 16>::low) Half;
  return {BitCast<Half>(_mm256_maskload_ps(from, BitCast<__m256i>(mask.low))),
          BitCast<Half>(_mm256_maskload_ps(from + 8, BitCast<__m256i>(mask.high)))};
}
FUSEDNORM_INLINE void WriteFirst(float* to, Wide<float, 16> value, int64_t count) {
  const FloatVector::Mask mask = FloatVector::First(count);
  _mm256_maskstore_ps(to, BitCast<__m256i>(mask.low), BitCast<__m256>(value.low));
  _mm256_maskstore_ps(to + 8, BitCast<__m256i>(mask.high), BitCast<__m256>(value.high));
}
#endif

template <class Storage>
FUSEDNORM_INLINE auto ReadFirst(const Storage* from, int64_t count) {
  typedef Wide<Storage, (sizeof(Storage) == sizeof(double) ? 8 : 16)> Packed;
  Storage lanes[sizeof(Packed) / sizeof(Storage)] = {};
  __builtin_memcpy(lanes, from, count * sizeof(Storage));
  return Read<Packed>(lanes);
}
template <class Storage, class Packed>
FUSEDNORM_INLINE void WriteFirst(Storage* to, Packed value, int64_t count) {
  Storage lanes[sizeof(Packed) / sizeof(Storage)];
  Write(lanes, value);
  __builtin_memcpy(to, lanes, count * sizeof(Storage));
}

// Lanes past the tail read as zero.
template <class Data>
FUSEDNORM_INLINE typename Data::Vec::V Load(const typename Data::Storage* from,
                                            Partial width) {
  return Data::Unpack(ReadFirst(from, width.count));
}

template <class Data>
FUSEDNORM_INLINE void Store(typename Data::Storage* to, typename Data::Vec::V value,
                            Full<typename Data::Vec>) {
  Write(to, Data::Pack(value));
}

template <class Data>
FUSEDNORM_INLINE void Store(typename Data::Storage* to, typename Data::Vec::V value,
                            Partial width) {
  WriteFirst(to, Data::Pack(value), width.count);
}

// Writes a vector past the caches. `to` must be aligned.
template <class Data>
FUSEDNORM_INLINE void StoreStreaming(typename Data::Storage* to,
                                     typename Data::Vec::V value,
                                     Full<typename Data::Vec>) {
  Stream(to, Data::Pack(value));
}
template <class Data>
FUSEDNORM_INLINE void StoreStreaming(typename Data::Storage* to,
                                     typename Data::Vec::V value, Partial width) {
  Store<Data>(to, value, width);
}

// The number of elements before the first aligned vector, at most `count`.
template <class Data>
FUSEDNORM_INLINE int64_t CountUnaligned(const typename Data::Storage* to,
                                        int64_t count) {
  constexpr uintptr_t kBytes = sizeof(typename Data::Packed);
  const uintptr_t past = reinterpret_cast<uintptr_t>(to) % kBytes;
  if (past == 0) return 0;
  const int64_t head = (kBytes - past) / sizeof(typename Data::Storage);
  return head < count ? head : count;
}

template <class Data>
FUSEDNORM_INLINE typename Data::Vec::Scalar LoadOne(
    const typename Data::Storage* from) {
  typedef typename Data::Vec::Scalar Scalar;
  if constexpr (std::is_same<typename Data::Storage, Scalar>::value) {
    return *from;
  } else {
    Scalar lanes[Data::Vec::kLanes];
    Write(lanes, Load<Data>(from, Partial{1}));
    return lanes[0];
  }
}

// Sets the lanes past the tail to zero, so that a sum over lanes is one over elements.
template <class Vec>
FUSEDNORM_INLINE typename Vec::V KeepTail(typename Vec::V value, Full<Vec>) {
  return value;
}
template <class Vec>
FUSEDNORM_INLINE typename Vec::V KeepTail(typename Vec::V value, Partial width) {
  return Vec::Select(Vec::First(width.count), value, typename Vec::V{});
}

// The sum of all lanes, in double.
template <class Vec>
FUSEDNORM_INLINE double SumLanes(typename Vec::V value) {
  return SumOfLanes(ConvertTo<Wide<double, Vec::kLanes>>(value));
}

// Calls body(offset, width) over [0, count) in vectors, the tail last.
template <class Vec, class Body>
FUSEDNORM_INLINE void ForEachVector(int64_t count, Body&& body) {
  int64_t i = 0;
  for (; i + Vec::kLanes <= count; i += Vec::kLanes) body(i, Full<Vec>());
  if (i < count) body(i, Partial{count - i});
}

// The same with `head` elements before the first vector.
template <class Vec, class Body>
FUSEDNORM_INLINE void ForEachVector(int64_t count, int64_t head, Body&& body) {
  if (head > 0) body(0, Partial{head});
  int64_t i = head;
  for (; i + Vec::kLanes <= count; i += Vec::kLanes) body(i, Full<Vec>());
  if (i < count) body(i, Partial{count - i});
}

// For sums that are kept as two side by side, since each addition waits for the one
// before it. Calls body(offset, which, width), with `which` 0 or 1 in turn.
template <class Vec, class Body>
FUSEDNORM_INLINE void ForEachVectorInTwos(int64_t count, Body&& body) {
  constexpr int64_t kLanes = Vec::kLanes;
  int64_t i = 0;
  for (; i + 2 * kLanes <= count; i += 2 * kLanes) {
    body(i, 0, Full<Vec>());
    body(i + kLanes, 1, Full<Vec>());
  }
  if (i + kLanes <= count) {
    body(i, 0, Full<Vec>());
    i += kLanes;
  }
  if (i < count) body(i, 1, Partial{count - i});
}
