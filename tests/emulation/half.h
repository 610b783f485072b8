// float16 and bfloat16 in plain C++, rounded to nearest with ties to even.
#pragma once

#include <cstdint>
#include <cstring>

namespace fusednorm {
namespace cuda {
namespace emulation {

inline float FloatOfBits(uint32_t bits) {
  float value;
  std::memcpy(&value, &bits, sizeof(value));
  return value;
}
inline uint32_t BitsOfFloat(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof(bits));
  return bits;
}

inline float FloatOfBfloat16(uint16_t bits) {
  return FloatOfBits(uint32_t{bits} << 16);
}

inline uint16_t Bfloat16OfFloat(float value) {
  const uint32_t bits = BitsOfFloat(value);
  if (value != value) return 0x7FFF;
  return static_cast<uint16_t>((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16);
}

inline float FloatOfHalf(uint16_t bits) {
  const uint32_t sign = uint32_t{bits & 0x8000u} << 16;
  const uint32_t exponent = (bits >> 10) & 31;
  const uint32_t fraction = bits & 1023;
  if (exponent == 31) return FloatOfBits(sign | 0x7F800000u | fraction << 13);
  if (exponent == 0) {  // fraction * 2^-24, exactly
    const float magnitude = static_cast<float>(fraction) * 5.9604644775390625e-8f;
    return sign != 0 ? -magnitude : magnitude;
  }
  return FloatOfBits(sign | (exponent + 112) << 23 | fraction << 13);
}

inline uint16_t HalfOfFloat(float value) {
  const uint32_t bits = BitsOfFloat(value);
  const uint16_t sign = static_cast<uint16_t>((bits >> 16) & 0x8000);
  const uint32_t magnitude = bits & 0x7FFFFFFF;
  if (magnitude > 0x7F800000) return 0x7FFF;
  if (magnitude >= 0x477FF000) return sign | 0x7C00;  // from 65520 on
  if (magnitude < 0x38800000) {  // below 2^-14: a multiple of 2^-24
    // Adding 0.5 leaves the rounded multiple in the low bits.
    const uint32_t rounded = BitsOfFloat(FloatOfBits(magnitude) + 0.5f);
    return static_cast<uint16_t>(sign | (rounded - 0x3F000000));
  }
  const uint32_t rounded = magnitude + 0xFFF + ((magnitude >> 13) & 1);
  return static_cast<uint16_t>(sign | ((rounded - 0x38000000) >> 13));
}

}  // namespace emulation
}  // namespace cuda
}  // namespace fusednorm
