// A thread's part of a row, kept on chip between the passes over it: in registers, or
// in the thread's own slots of shared memory (no other thread reads them, so no barrier
// is needed).
#pragma once

#include "cuda/number.cuh"

namespace fusednorm {
namespace cuda {

// function(j) for the thread's accesses to a row: unrolled where their number is known.
template <int kVectors, class Function>
FUSEDNORM_DEVICE void ForEachAccess(int count, const Function& function) {
  if constexpr (kVectors > 0) {
#pragma unroll
    for (int j = 0; j < kVectors; ++j) function(j);
  } else {
#pragma unroll 4
    for (int j = 0; j < count; ++j) function(j);
  }
}

template <class T, int kWidth, int vectors>
class RegisterRow {
 public:
  static constexpr int kVectors = vectors;
  typedef Pack<T, kWidth> P;

  FUSEDNORM_DEVICE explicit RegisterRow(int64_t) {}
  FUSEDNORM_DEVICE P Get(int j) const { return packs_[j]; }
  FUSEDNORM_DEVICE void Set(int j, const P& pack) { packs_[j] = pack; }

 private:
  P packs_[kVectors];
};

// vectors = 0: any number of accesses.
template <class T, int kWidth, int vectors>
class SharedRow {
 public:
  static constexpr int kVectors = vectors;
  typedef Pack<T, kWidth> P;

  FUSEDNORM_DEVICE explicit SharedRow(int64_t offset) : slots_(offset) {}
  FUSEDNORM_DEVICE P Get(int j) const { return {slots_.Get(Slot(j))}; }
  FUSEDNORM_DEVICE void Set(int j, const P& pack) { slots_.Set(Slot(j), pack.stored); }

 private:
  FUSEDNORM_DEVICE static int Slot(int j) {
    return j * device::Threads() + device::Thread();
  }
  const device::Shared<typename P::Stored> slots_;
};

// Where a thread's accesses to a row lie.
template <int kWidth>
struct RowAccess {
  int index;   // of the thread in its team
  int size;    // of the team
  int length;  // of the row, 0 if the team has none
  FUSEDNORM_DEVICE int At(int j) const { return (j * size + index) * kWidth; }
  FUSEDNORM_DEVICE bool Has(int j) const { return At(j) < length; }
  FUSEDNORM_DEVICE int Count() const {
    return (length + size * kWidth - 1) / (size * kWidth);
  }
};

// The first element of a row, around which its sums are taken: of a constant row all
// deviations are then exactly zero.
template <class T>
FUSEDNORM_DEVICE typename Number<T>::Compute FirstElement(const void* x,
                                                          const void* residual,
                                                          int64_t at) {
  Pack<T, 1> first = Pack<T, 1>::LoadFrom(static_cast<const T*>(x) + at);
  if (residual != nullptr) {
    first =
        Sum<T, 1>(first, Pack<T, 1>::LoadFrom(static_cast<const T*>(residual) + at));
  }
  return first.stored;
}

}  // namespace cuda
}  // namespace fusednorm
