// The numbers that the lanes of a part need. They are in shared memory and are read
// again for every few accesses, so that registers can hold more of the tensors.
#pragma once

#include "cuda/kernels/common/affine.cuh"
#include "cuda/kernels/common/number.cuh"
#include "cuda/kernels/lines/place.cuh"
#include "cuda/kernels/lines/shared_layout.h"

namespace fusednorm {
namespace cuda {

enum LaneConstant {
  kLaneMean,
  kLaneRstd,
  kLaneGamma,
  kLaneBeta,
  kLaneXhat,
  kLaneAdded
};

// The numbers of a column are read in accesses of 16 bytes, kStep numbers each. The
// accesses of neighbouring columns are next to each other in memory.
template <class C, int kWidth>
class LaneConstants {
 public:
  static constexpr int kStep = kWidth == 1 ? 1 : kFullWidth<C>;

  FUSEDNORM_DEVICE LaneConstants(const LinesGeometry& g, int64_t offset)
      : columns_(g.thread_columns.divisor()), numbers_(offset), words_(offset) {}

  FUSEDNORM_DEVICE void Set(LaneConstant which, int lane, C value) const {
    numbers_.Set(AtOfLane(which, lane), value);
  }
  FUSEDNORM_DEVICE C GetOne(LaneConstant which, int lane) const {
    return numbers_.Get(AtOfLane(which, lane));
  }
  // For elements part * kStep to part * kStep + kStep - 1 of a column.
  FUSEDNORM_DEVICE void Get(LaneConstant which, int part, int column,
                            C (&values)[kStep]) const {
    const int at = At(which, part, column);
    if constexpr (kWidth == 1) {
      values[0] = numbers_.GetAgain(at);
    } else {
      Pack<C, kStep>{words_.GetAgain(at)}.Get(values);
    }
  }
  // For all elements of a column.
  FUSEDNORM_DEVICE void GetAll(LaneConstant which, int column,
                               C (&values)[kWidth]) const {
#pragma unroll
    for (int part = 0; part < kWidth / kStep; ++part) {
      C some[kStep];
      Get(which, part, column, some);
#pragma unroll
      for (int e = 0; e < kStep; ++e) values[part * kStep + e] = some[e];
    }
  }

 private:
  FUSEDNORM_DEVICE int At(LaneConstant which, int part, int column) const {
    return (which * (kWidth / kStep) + part) * columns_ + column;
  }
  // Unsigned, because signed division by a power of two takes more than a shift.
  FUSEDNORM_DEVICE int AtOfLane(LaneConstant which, uint32_t lane) const {
    const uint32_t column = lane / kWidth, e = lane % kWidth;
    return At(which, e / kStep, column) * kStep + e % kStep;
  }

  const int columns_;
  const device::Shared<C> numbers_;
  const device::Shared<device::Words> words_;
};

}  // namespace cuda
}  // namespace fusednorm
