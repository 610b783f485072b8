// What an instance of the kernels of `tile` knows at compile time.
#pragma once

#include "cuda/kernels/lines/apply.cuh"
#include "cuda/kernels/lines/place.cuh"

namespace fusednorm {
namespace cuda {

// columns: each place in the line is a group, and gamma and beta belong to the row.
// wide: accesses are 16 bytes wide, as they always are for interleaved groups.
template <bool columns, bool wide>
struct TileFeatures {
  static constexpr bool kColumns = columns;
  static constexpr bool kWide = wide;
};

// gamma and beta of a thread's accesses. Those of lanes are in shared memory, where
// SetAffine must have stored them.
template <class T, int kVectors, class Features, int kWidth>
FUSEDNORM_DEVICE auto ParamsOfTile(
    const NormArgs& args, const LinesGeometry& g, const LineSet& set,
    const LinePlace<kWidth>& place,
    const LaneConstants<typename Number<T>::Compute, kWidth>& constants) {
  typedef typename Number<T>::Compute C;
  if constexpr (Features::kColumns) {
    RowParams<C, kVectors> params;
#pragma unroll
    for (int v = 0; v < kVectors; ++v) {
      const bool has = v < place.count;
      const int64_t param =
          set.first_param + place.first_row + v * int64_t{g.thread_rows.divisor()};
      params.gamma[v] = has ? GammaAt<T>(args.affine, param) : C(1);
      params.beta[v] = has ? BetaAt<T>(args.affine, param) : C(0);
    }
    return params;
  } else {
    return LaneParams<C, kWidth>{constants, place.column};
  }
}

}  // namespace cuda
}  // namespace fusednorm
