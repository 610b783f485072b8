// gamma and beta of tiles: along the line, of each row, or of each element.
#pragma once

#include "cuda/kernels/common/affine.cuh"
#include "cuda/kernels/tile/tile.cuh"

namespace fusednorm {
namespace cuda {

// gamma and beta are not the lanes': what is summed over a lane has gamma in it, or
// gamma waits for the sum.
FUSEDNORM_DEVICE bool ParamsOfLanes(const Tiles& tiles) {
  return !tiles.columns && !tiles.positions;
}

// Of a thread's lanes; they change from row to row unless they are the lanes'. Where
// each sample has its own, a block has one `outer` only.
template <class T, int kWidth>
class TileAffine {
 public:
  typedef typename Number<T>::Compute C;
  C gamma[kWidth];
  C beta[kWidth];

  FUSEDNORM_DEVICE TileAffine(const NormArgs& args, const Tile<kWidth>& tile)
      : first_(args.tiles.sample.Divide(tile.slot) * args.tiles.params) {
#pragma unroll
    for (int e = 0; e < kWidth; ++e) {
      gamma[e] = 1;
      beta[e] = 0;
      if (!ParamsOfLanes(args.tiles) || !tile.active) continue;
      const int64_t param =
          first_ + args.tiles.q.Divide(tile.first_lane + tile.lane + e);
      gamma[e] = GammaAt<T>(args.affine, param);
      beta[e] = BetaAt<T>(args.affine, param);
    }
  }
  // `at`: of the thread's access to the row, in the tensor.
  FUSEDNORM_DEVICE void SetRow(const NormArgs& args, int64_t row, int64_t at) {
    const Affine& affine = args.affine;
    if (args.tiles.positions) {
      if (affine.gamma != nullptr) LoadGamma<T, kWidth>(affine, at, gamma);
      if (affine.beta != nullptr) {
        LoadParams<T, kWidth>(affine.beta, affine.narrow, at, beta);
      }
    }
    if (!args.tiles.columns) return;
    const C row_gamma = GammaAt<T>(affine, first_ + row);
    const C row_beta = BetaAt<T>(affine, first_ + row);
#pragma unroll
    for (int e = 0; e < kWidth; ++e) {
      gamma[e] = row_gamma;
      beta[e] = row_beta;
    }
  }
  FUSEDNORM_DEVICE C GammaOfLane(const NormArgs& args, int64_t lane) const {
    return GammaAt<T>(args.affine, first_ + args.tiles.q.Divide(lane));
  }

 private:
  const int64_t first_;  // parameter of the sample
};

// dgamma and dbeta of an access at `at`, where each element has its own.
template <class T, int kWidth>
FUSEDNORM_DEVICE void StoreParamGradients(
    const ParamSums& params, int64_t at,
    const typename Number<T>::Compute (&xhat)[kWidth],
    const typename Number<T>::Compute (&dz)[kWidth], bool stream) {
  if (params.dgamma != nullptr) {
    typename Number<T>::Compute dgamma[kWidth];
#pragma unroll
    for (int e = 0; e < kWidth; ++e) dgamma[e] = dz[e] * xhat[e];
    StoreParams<T, kWidth>(params.dgamma, params.narrow, at, dgamma, stream);
  }
  if (params.dbeta != nullptr) {
    StoreParams<T, kWidth>(params.dbeta, params.narrow, at, dz, stream);
  }
}

}  // namespace cuda
}  // namespace fusednorm
