// From a plan of the `columns` scheme to its kernels. Also starts the second stage of
// dgamma and dbeta, with which other schemes end.
#pragma once

#include "cuda/kernels/columns/column_sums.cuh"
#include "cuda/kernels/columns/long_rows.cuh"
#include "cuda/kernels/common/launch.cuh"
#include "cuda/kernels/kernels.h"

namespace fusednorm {
namespace cuda {
namespace columns {

template <class T>
Status Start(const ParamSums& params, const Plan& plan, Stream stream) {
  return device::Launch(ColumnSums<T>, plan.launches[plan.num_launches - 1], stream,
                        params);
}

// The kernel of ParamSums is compiled in objects of its own. This keeps the others from
// compiling it, too.
extern template Status Start<float>(const ParamSums&, const Plan&, Stream);
extern template Status Start<Half>(const ParamSums&, const Plan&, Stream);
extern template Status Start<Bfloat16>(const ParamSums&, const Plan&, Stream);
extern template Status Start<double>(const ParamSums&, const Plan&, Stream);

// Starts the two kernels. The first one has no use for a residual.
template <class T, class OfSums, class OfGradient>
Status StartLongRows(const BackwardArgs& args, const Plan& plan, Stream stream) {
  const ColumnsGeometry& geometry = std::get<ColumnsGeometry>(plan.geometry);
  FUSEDNORM_RETURN_IF_ERROR(
      device::Launch(LongRowSums<T, OfSums>, plan.launches[0], stream, args, geometry));
  FUSEDNORM_RETURN_IF_ERROR(device::Launch(LongRowGradient<T, OfGradient>,
                                           plan.launches[1], stream, args, geometry));
  return plan.sets == 0 ? Status() : Start<T>(args.params, plan, stream);
}
template <class T, bool kCentred>
Status StartPlain(const BackwardArgs& args, const Plan& plan, Stream stream) {
  typedef Plain<kCentred, false> Features;
  return args.dsum != nullptr
             ? StartLongRows<T, Features, Plain<kCentred, true>>(args, plan, stream)
             : StartLongRows<T, Features, Features>(args, plan, stream);
}

template <class T>
Status Start(const BackwardArgs& args, const Plan& plan, Stream stream) {
  const ColumnsGeometry& geometry = std::get<ColumnsGeometry>(plan.geometry);
  if constexpr (!std::is_same_v<T, double>) {  // double has no plain instance
    if (!geometry.general) {
      return args.centred ? StartPlain<T, true>(args, plan, stream)
                          : StartPlain<T, false>(args, plan, stream);
    }
  }
  return geometry.width > 1
             ? StartLongRows<T, General<true>, General<true>>(args, plan, stream)
             : StartLongRows<T, General<false>, General<false>>(args, plan, stream);
}

}  // namespace columns
}  // namespace cuda
}  // namespace fusednorm
