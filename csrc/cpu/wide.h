// Vectors of any width, made of the registers of the instruction set: a GCC/Clang
// vector type if one register holds it, otherwise a pair of halves. (The compiler would
// split a vector type that is too wide itself, but goes through memory to do it: 5
// times slower on AVX2 as measured.)
//
// Included only by kernels.cc, inside its per-instruction-set namespace.
#pragma once

#if defined(__AVX512F__)
#define FUSEDNORM_REGISTER_BYTES 64
#elif defined(__AVX2__)
#define FUSEDNORM_REGISTER_BYTES 32
#else
#define FUSEDNORM_REGISTER_BYTES 16
#endif

// For long sequences of vector instructions that many loops have. On x86-64 without
// AVX2, which only processors from before 2013 are, each is several times as long as
// elsewhere. There they are called, which costs some speed, because inlined they take
// the compiler very long.
#if defined(__x86_64__) && !defined(__AVX2__)
#define FUSEDNORM_INLINE_IF_FAST FUSEDNORM_CALL
#else
#define FUSEDNORM_INLINE_IF_FAST FUSEDNORM_INLINE
#endif

template <class Half>
struct Pair {
  Half low, high;
};

template <class Half>
FUSEDNORM_INLINE Pair<Half> MakePair(Half low, Half high) {
  return {low, high};
}

template <class Element, int64_t kBytes>
struct RegisterOf {
  typedef Element type __attribute__((vector_size(kBytes)));
};
template <class Register>
using ElementOf = std::remove_reference_t<decltype(std::declval<Register&>()[0])>;

template <class Element, int64_t kLanes,
          bool kFits = kLanes * sizeof(Element) <= FUSEDNORM_REGISTER_BYTES>
struct WideOf : RegisterOf<Element, kLanes * sizeof(Element)> {};
template <class Element, int64_t kLanes>
struct WideOf<Element, kLanes, false> {
  typedef Pair<typename WideOf<Element, kLanes / 2>::type> type;
};
template <class Element, int64_t kLanes>
using Wide = typename WideOf<Element, kLanes>::type;

template <class Type>
constexpr bool kIsPair = false;
template <class Half>
constexpr bool kIsPair<Pair<Half>> = true;

#define FUSEDNORM_PAIR_OPERATOR(op)                               \
  template <class Half>                                           \
  FUSEDNORM_INLINE auto operator op(Pair<Half> a, Pair<Half> b) { \
    return MakePair(a.low op b.low, a.high op b.high);            \
  }                                                               \
  template <class Half, class Element>                            \
  FUSEDNORM_INLINE auto operator op(Pair<Half> a, Element b) {    \
    return MakePair(a.low op b, a.high op b);                     \
  }
FUSEDNORM_PAIR_OPERATOR(+)
FUSEDNORM_PAIR_OPERATOR(-)
FUSEDNORM_PAIR_OPERATOR(*)
FUSEDNORM_PAIR_OPERATOR(/)
FUSEDNORM_PAIR_OPERATOR(&)
FUSEDNORM_PAIR_OPERATOR(|)
FUSEDNORM_PAIR_OPERATOR(^)
FUSEDNORM_PAIR_OPERATOR(<<)
FUSEDNORM_PAIR_OPERATOR(>>)
FUSEDNORM_PAIR_OPERATOR(==)
FUSEDNORM_PAIR_OPERATOR(<)
FUSEDNORM_PAIR_OPERATOR(<=)
FUSEDNORM_PAIR_OPERATOR(>)
FUSEDNORM_PAIR_OPERATOR(>=)
#undef FUSEDNORM_PAIR_OPERATOR

template <class Half>
FUSEDNORM_INLINE Pair<Half> operator-(Pair<Half> a) {
  return {-a.low, -a.high};
}

// Pairs are moved one register at a time. A pair copied as one block would be written
// in one size and read in another, which stalls.
template <class To>
FUSEDNORM_INLINE To Read(const void* from) {
  if constexpr (kIsPair<To>) {
    typedef decltype(To::low) Half;
    return {Read<Half>(from),
            Read<Half>(static_cast<const char*>(from) + sizeof(Half))};
  } else {
    To to;
    __builtin_memcpy(&to, from, sizeof(To));
    return to;
  }
}

template <class From>
FUSEDNORM_INLINE void Write(void* to, From from) {
  if constexpr (kIsPair<From>) {
    Write(to, from.low);
    Write(static_cast<char*>(to) + sizeof(from.low), from.high);
  } else {
    __builtin_memcpy(to, &from, sizeof(From));
  }
}

template <class To, class From>
FUSEDNORM_INLINE To BitCast(From from) {
  static_assert(sizeof(To) == sizeof(From), "same size");
  if constexpr (kIsPair<To> && kIsPair<From>) {
    typedef decltype(To::low) Half;
    return {BitCast<Half>(from.low), BitCast<Half>(from.high)};
  } else {
    To to;
    __builtin_memcpy(&to, &from, sizeof(To));
    return to;
  }
}

template <class To, class Element>
FUSEDNORM_INLINE To SplatTo(Element value) {
  if constexpr (kIsPair<To>) {
    const auto half = SplatTo<decltype(To::low)>(value);
    return {half, half};
  } else {
    return To{} + value;
  }
}

// The two halves of a vector that is in one register.
template <int64_t kFirst, class V, int64_t... kLane>
FUSEDNORM_INLINE auto LanesFrom(V value, std::integer_sequence<int64_t, kLane...>) {
  return __builtin_shufflevector(value, value, (kFirst + kLane)...);
}
template <class V>
FUSEDNORM_INLINE auto Halves(V value) {
  constexpr int64_t kHalf = sizeof(V) / sizeof(ElementOf<V>) / 2;
  const std::make_integer_sequence<int64_t, kHalf> lanes;
  return MakePair(LanesFrom<0>(value, lanes), LanesFrom<kHalf>(value, lanes));
}

template <class Mask, class Value>
FUSEDNORM_INLINE Value SelectLanes(Mask mask, Value yes, Value no) {
  if constexpr (kIsPair<Value>) {
    return {SelectLanes(mask.low, yes.low, no.low),
            SelectLanes(mask.high, yes.high, no.high)};
  } else {
    return mask ? yes : no;
  }
}

// The smaller (AtMost) or larger (AtLeast) of a bound and a value. A NaN value stays
// NaN.
template <class Value>
FUSEDNORM_INLINE Value AtMost(Value bound, Value value) {
  if constexpr (kIsPair<Value>) {
    return {AtMost(bound.low, value.low), AtMost(bound.high, value.high)};
#if defined(__AVX512F__)
  } else if constexpr (sizeof(Value) == 64 && sizeof(ElementOf<Value>) == 4) {
    return BitCast<Value>(
        _mm512_maskz_min_ps(0xffff, BitCast<__m512>(bound), BitCast<__m512>(value)));
#endif
#if defined(__AVX2__)
  } else if constexpr (sizeof(Value) == 32 && sizeof(ElementOf<Value>) == 4) {
    return BitCast<Value>(
        _mm256_min_ps(BitCast<__m256>(bound), BitCast<__m256>(value)));
#endif
  } else {
    return SelectLanes(value > bound, bound, value);
  }
}
template <class Value>
FUSEDNORM_INLINE Value AtLeast(Value bound, Value value) {
  if constexpr (kIsPair<Value>) {
    return {AtLeast(bound.low, value.low), AtLeast(bound.high, value.high)};
#if defined(__AVX512F__)
  } else if constexpr (sizeof(Value) == 64 && sizeof(ElementOf<Value>) == 4) {
    return BitCast<Value>(
        _mm512_maskz_max_ps(0xffff, BitCast<__m512>(bound), BitCast<__m512>(value)));
#endif
#if defined(__AVX2__)
  } else if constexpr (sizeof(Value) == 32 && sizeof(ElementOf<Value>) == 4) {
    return BitCast<Value>(
        _mm256_max_ps(BitCast<__m256>(bound), BitCast<__m256>(value)));
#endif
  } else {
    return SelectLanes(value < bound, bound, value);
  }
}

// The square root of each double.
template <class Value>
FUSEDNORM_INLINE Value SquareRoot(Value value) {
  if constexpr (kIsPair<Value>) {
    return {SquareRoot(value.low), SquareRoot(value.high)};
#if defined(__AVX512F__)
  } else if constexpr (sizeof(Value) == 64) {
    return BitCast<Value>(_mm512_maskz_sqrt_pd(0xff, BitCast<__m512d>(value)));
#endif
#if defined(__AVX2__)
  } else if constexpr (sizeof(Value) == 32) {
    return BitCast<Value>(_mm256_sqrt_pd(BitCast<__m256d>(value)));
#endif
  } else {
    Value root;
    for (size_t i = 0; i < sizeof(Value) / sizeof(value[0]); ++i) {
      root[i] = __builtin_sqrt(value[i]);
    }
    return root;
  }
}

// Converts each element. Both types have the same number of lanes.
template <class To, class From>
FUSEDNORM_INLINE To ConvertTo(From from) {
  if constexpr (kIsPair<To> && kIsPair<From>) {
    return {ConvertTo<decltype(To::low)>(from.low),
            ConvertTo<decltype(To::low)>(from.high)};
  } else if constexpr (kIsPair<To>) {
    // One register becomes several.
    const auto halves = Halves(from);
    return {ConvertTo<decltype(To::low)>(halves.low),
            ConvertTo<decltype(To::low)>(halves.high)};
  } else if constexpr (kIsPair<From>) {
    // Several registers become one.
    typedef typename RegisterOf<ElementOf<To>, sizeof(To) / 2>::type HalfTo;
    return BitCast<To>(
        MakePair(ConvertTo<HalfTo>(from.low), ConvertTo<HalfTo>(from.high)));
  } else {
    return __builtin_convertvector(from, To);
  }
}

// The sum of all lanes. Halves are added to halves, so that the order does not depend
// on the registers.
template <class V>
FUSEDNORM_INLINE auto SumOfLanes(V value) {
  if constexpr (kIsPair<V>) {
    return SumOfLanes(value.low + value.high);
  } else if constexpr (sizeof(V) == 2 * sizeof(ElementOf<V>)) {
    return value[0] + value[1];
  } else {
    const auto halves = Halves(value);
    return SumOfLanes(halves.low + halves.high);
  }
}

// Must follow the writes of Stream, so that other threads see them.
FUSEDNORM_INLINE void EndStream() {
#if defined(__x86_64__)
  _mm_sfence();
#endif
}

// Writes past the caches without reading the cache line first. For what would leave the
// caches before it is needed again. `to` must be aligned to the size of a register.
template <class From>
FUSEDNORM_INLINE void Stream(void* to, From from) {
  if constexpr (kIsPair<From>) {
    Stream(to, from.low);
    Stream(static_cast<char*>(to) + sizeof(from.low), from.high);
#if defined(__AVX512F__)
  } else if constexpr (sizeof(From) == 64) {
    _mm512_stream_si512(static_cast<__m512i*>(to), BitCast<__m512i>(from));
#endif
#if defined(__AVX2__)
  } else if constexpr (sizeof(From) == 32) {
    _mm256_stream_si256(static_cast<__m256i*>(to), BitCast<__m256i>(from));
#endif
#if defined(__x86_64__)
  } else if constexpr (sizeof(From) == 16) {
    _mm_stream_si128(static_cast<__m128i*>(to), BitCast<__m128i>(from));
#endif
  } else {
    Write(to, from);
  }
}

// a0 b0 a1 b1 ...: one lane of each vector in turn, from the lower (ZipLow) or upper
// (ZipHigh) halves.
template <class V>
FUSEDNORM_INLINE V ZipLow(V a, V b);
template <class V>
FUSEDNORM_INLINE V ZipHigh(V a, V b);

template <class V, int kFirst, int64_t... kLane>
FUSEDNORM_INLINE V ZipFrom(V a, V b, std::integer_sequence<int64_t, kLane...>) {
  constexpr int64_t kLanes = sizeof...(kLane);
  return __builtin_shufflevector(a, b, (kFirst + kLane / 2 + kLane % 2 * kLanes)...);
}

template <class V>
FUSEDNORM_INLINE V ZipLow(V a, V b) {
  if constexpr (kIsPair<V>) {
    return {ZipLow(a.low, b.low), ZipHigh(a.low, b.low)};
  } else {
    constexpr int64_t kLanes = sizeof(V) / sizeof(ElementOf<V>);
    return ZipFrom<V, 0>(a, b, std::make_integer_sequence<int64_t, kLanes>());
  }
}
template <class V>
FUSEDNORM_INLINE V ZipHigh(V a, V b) {
  if constexpr (kIsPair<V>) {
    return {ZipLow(a.high, b.high), ZipHigh(a.high, b.high)};
  } else {
    constexpr int64_t kLanes = sizeof(V) / sizeof(ElementOf<V>);
    return ZipFrom<V, kLanes / 2>(a, b, std::make_integer_sequence<int64_t, kLanes>());
  }
}
