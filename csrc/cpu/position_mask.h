// Which positions the statistics are of. The others are called hidden.
//
// Included only by kernels.cc, inside its per-instruction-set namespace.
#pragma once

class PositionMask {
 public:
  PositionMask(const NormProblem& problem, const void* mask)
      : mask_(problem.has_mask ? static_cast<const uint8_t*>(mask) : nullptr),
        positions_(problem.p * problem.mask_q),
        groups_(problem.groups_of_mask()),
        group_size_(problem.group_size()) {}

  FUSEDNORM_INLINE bool exists() const { return mask_ != nullptr; }

  // The mask [P, mask_q] of the group's sample; 0: hidden.
  FUSEDNORM_INLINE const uint8_t* Of(int64_t group) const {
    return mask_ + group / groups_ * positions_;
  }

  // How many of `count` positions are like the first one. `count` is at least 1.
  static FUSEDNORM_INLINE int64_t RunLength(const uint8_t* mask, int64_t count) {
    constexpr int64_t kWord = sizeof(uint64_t);
    const bool hidden = mask[0] == 0;
    int64_t run = 1;
    for (; run + kWord <= count; run += kWord) {
      const uint64_t word = Read<uint64_t>(mask + run);
      if (hidden ? word != 0 : HasZero(word)) break;
    }
    while (run < count && (mask[run] == 0) == hidden) ++run;
    return run;
  }

  // Copies those of `count` elements that are not hidden, and returns how many they
  // are.
  template <class Storage>
  static FUSEDNORM_INLINE int64_t Pack(const uint8_t* mask, const Storage* from,
                                       int64_t count, Storage* to) {
    int64_t packed = 0;
    for (int64_t i = 0; i < count; ++i) {
      to[packed] = from[i];
      packed += mask[i] != 0;
    }
    return packed;
  }

  // The first position that the group's statistics are of, or -1 if all are hidden.
  int64_t First(int64_t group) const {
    if (!exists()) return 0;
    const uint8_t* const mask = Of(group);
    if (mask[0] != 0) return 0;
    const int64_t hidden = RunLength(mask, positions_);
    return hidden < positions_ ? hidden : -1;
  }

  // 1 / the number of elements that the group's statistics are of, or 0 if there are
  // none.
  double PerElement(int64_t group) const {
    int64_t elements = group_size_;
    if (exists()) elements = elements / positions_ * Count(Of(group));
    return elements == 0 ? 0 : 1.0 / elements;
  }

 private:
  static FUSEDNORM_INLINE bool HasZero(uint64_t word) {
    constexpr uint64_t kOnes = ~uint64_t{0} / 255;
    return ((word - kOnes) & ~word & (kOnes << 7)) != 0;
  }

  int64_t Count(const uint8_t* mask) const {
    constexpr int64_t kMost = 255;  // the sum fits a byte, in vectors of bytes
    int64_t count = 0;
    for (int64_t begin = 0; begin < positions_; begin += kMost) {
      const int64_t end = Min(begin + kMost, positions_);
      uint8_t of_block = 0;
      for (int64_t i = begin; i < end; ++i) of_block += mask[i] != 0;
      count += of_block;
    }
    return count;
  }

  const uint8_t* const mask_;  // null: there is no mask
  const int64_t positions_;    // of a sample
  const int64_t groups_;       // of a sample
  const int64_t group_size_;
};
