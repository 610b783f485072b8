// Division by a number that the host knows, done as a multiplication: a 64-bit division
// takes about a hundred instructions on a GPU.
#pragma once

#include <cstdint>

#include "core/portability.h"

namespace fusednorm {
namespace cuda {

// The method of Granlund and Montgomery, "Division by invariant integers using
// multiplication", 1994, for dividends in [0, 2^63).
class Divider {
 public:
  Divider() : Divider(1) {}
  explicit Divider(int64_t divisor) : divisor_(divisor) {
    while (shift_ < 63 && (uint64_t{1} << shift_) < static_cast<uint64_t>(divisor)) {
      ++shift_;
    }
    const uint64_t rest = (uint64_t{1} << shift_) - static_cast<uint64_t>(divisor);
    multiplier_ = static_cast<uint64_t>((static_cast<unsigned __int128>(rest) << 64) /
                                        static_cast<uint64_t>(divisor)) +
                  1;
  }

  FUSEDNORM_INLINE int64_t Divide(int64_t dividend) const {
    const uint64_t u = static_cast<uint64_t>(dividend);
#if defined(__CUDA_ARCH__)
    const uint64_t high = __umul64hi(multiplier_, u);
#else
    const uint64_t high =
        static_cast<uint64_t>((static_cast<unsigned __int128>(multiplier_) * u) >> 64);
#endif
    return static_cast<int64_t>((high + u) >> shift_);
  }
  FUSEDNORM_INLINE int64_t Remainder(int64_t dividend) const {
    return dividend - Divide(dividend) * divisor_;
  }
  FUSEDNORM_INLINE int64_t divisor() const { return divisor_; }

 private:
  int64_t divisor_;
  uint64_t multiplier_;
  uint32_t shift_ = 0;
};

// The same for numbers below 2^31, in two instructions, for divisions that every thread
// makes.
class SmallDivider {
 public:
  SmallDivider() : SmallDivider(1) {}
  explicit SmallDivider(int64_t divisor) : divisor_(static_cast<int>(divisor)) {
    int log = 0;
    while ((int64_t{1} << log) < divisor) ++log;
    if (divisor == 1) return;
    multiplier_ =
        static_cast<uint32_t>(((uint64_t{1} << (31 + log)) + divisor - 1) / divisor);
    shift_ = log - 1;
  }

  FUSEDNORM_INLINE int Divide(int dividend) const {
    if (divisor_ == 1) return dividend;
#if defined(__CUDA_ARCH__)
    return static_cast<int>(__umulhi(multiplier_, static_cast<uint32_t>(dividend)) >>
                            shift_);
#else
    const uint64_t product = uint64_t{multiplier_} * static_cast<uint32_t>(dividend);
    return static_cast<int>((product >> 32) >> shift_);
#endif
  }
  FUSEDNORM_INLINE int Remainder(int dividend) const {
    return dividend - Divide(dividend) * divisor_;
  }
  FUSEDNORM_INLINE int divisor() const { return divisor_; }

 private:
  int divisor_;
  uint32_t multiplier_ = 0;
  int shift_ = 0;
};

}  // namespace cuda
}  // namespace fusednorm
