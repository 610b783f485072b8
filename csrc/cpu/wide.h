// Vectors as wide as wanted, made of the registers the instruction set has: a GCC/Clang
// vector type where one register holds it, else a pair of halves. (The compiler would
// split a too wide vector type itself, but goes through memory to do it: measured 5
// times slower on AVX2.)
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

// Everything that moves a pair moves it register by register: copied as one block it
// would be written in one size and read in another, which stalls.
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

template <class Mask, class Value>
FUSEDNORM_INLINE Value SelectLanes(Mask mask, Value yes, Value no) {
  if constexpr (kIsPair<Value>) {
    return {SelectLanes(mask.low, yes.low, no.low),
            SelectLanes(mask.high, yes.high, no.high)};
  } else {
    return mask ? yes : no;
  }
}

// Element by element, between types of as many lanes.
template <class To, class From>
FUSEDNORM_INLINE To ConvertTo(From from) {
  if constexpr (kIsPair<To> && kIsPair<From>) {
    return {ConvertTo<decltype(To::low)>(from.low),
            ConvertTo<decltype(To::low)>(from.high)};
  } else if constexpr (kIsPair<To>) {
    // One register becomes several.
    typedef typename RegisterOf<ElementOf<From>, sizeof(From) / 2>::type HalfFrom;
    const Pair<HalfFrom> halves = BitCast<Pair<HalfFrom>>(from);
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
