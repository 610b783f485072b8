// From a plan of the `columns` scheme to its kernels, and the second stage of dgamma
// and dbeta, which other schemes end with.
#pragma once

#include "cuda/kernels/columns/column_sums.cuh"
#include "cuda/kernels/columns/long_rows.cuh"
#include "cuda/kernels/common/launch.cuh"
#include "cuda/kernels/kernels.h"

namespace fusednorm {
namespace cuda {
namespace columns {

template <class T, bool kCentred>
Status StartLongRows(const BackwardArgs& args, const Plan& plan, Stream stream) {
  const ColumnsGeometry& geometry = std::get<ColumnsGeometry>(plan.geometry);
  FUSEDNORM_RETURN_IF_ERROR(device::Launch(LongRowSums<T, Plain<kCentred, false>>,
                                           plan.launches[0], stream, args, geometry));
  return device::Launch(args.dsum != nullptr
                            ? LongRowGradient<T, Plain<kCentred, true>>
                            : LongRowGradient<T, Plain<kCentred, false>>,
                        plan.launches[1], stream, args, geometry);
}

template <class T>
Status Start(const BackwardArgs& args, const Plan& plan, Stream stream) {
  return args.centred ? StartLongRows<T, true>(args, plan, stream)
                      : StartLongRows<T, false>(args, plan, stream);
}

template <class T>
Status Start(const ParamSums& params, const Plan& plan, Stream stream) {
  return device::Launch(ColumnSums<T>, plan.launches[plan.num_launches - 1], stream,
                        params);
}

}  // namespace columns
}  // namespace cuda
}  // namespace fusednorm
