// The part of a row that a thread keeps in registers between the passes over the row.
#pragma once

#include "cuda/kernels/common/number.cuh"

namespace fusednorm {
namespace cuda {

// Calls function(j) for each of a thread's accesses to a row.
template <int kVectors, class Function>
FUSEDNORM_DEVICE void ForEachAccess(const Function& function) {
#pragma unroll
  for (int j = 0; j < kVectors; ++j) function(j);
}

template <class T, int kWidth, int vectors>
class RegisterRow {
 public:
  static constexpr int kVectors = vectors;
  typedef Pack<T, kWidth> P;

  FUSEDNORM_DEVICE P Get(int j) const { return packs_[j]; }
  FUSEDNORM_DEVICE void Set(int j, const P& pack) { packs_[j] = pack; }

 private:
  P packs_[kVectors];
};

// The place of a thread's accesses in a row.
template <int kWidth>
struct RowAccess {
  int index;   // number of the thread in its team
  int size;    // number of threads of the team
  int length;  // the row's elements; 0 if the team has no row
  FUSEDNORM_DEVICE int At(int j) const { return (j * size + index) * kWidth; }
  // The offset of access `j` from the thread's first access.
  FUSEDNORM_DEVICE int Step(int j) const { return j * size * kWidth; }
  FUSEDNORM_DEVICE bool Has(int j) const { return At(j) < length; }
};

// The first element of a row, around which its sums are taken. All deviations of a
// constant row are then exactly zero.
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
