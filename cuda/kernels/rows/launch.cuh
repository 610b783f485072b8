// From a plan of the `rows` scheme to an instance of its kernels.
#pragma once

#include <string>
#include <utility>

#include "cuda/instances.h"
#include "cuda/kernels/common/launch.cuh"
#include "cuda/kernels/kernels.h"
#include "cuda/kernels/rows/backward.cuh"
#include "cuda/kernels/rows/forward.cuh"

namespace fusednorm {
namespace cuda {
namespace rows {

using ForwardKernel = void (*)(ForwardArgs, RowsGeometry);
using BackwardKernel = void (*)(BackwardArgs, RowsGeometry);

// The kernels of one line of the table.
template <class T, int kVectors, bool kBlock, class Features>
constexpr ForwardKernel KernelOf(const ForwardArgs*) {
  return RowsForward<T, kVectors, kBlock, Features>;
}
template <class T, int kVectors, bool kBlock, class Features>
constexpr BackwardKernel KernelOf(const BackwardArgs*) {
  return RowsBackward<T, kVectors, kBlock, Features>;
}
template <class Args>
constexpr const auto& TableOf() {
  if constexpr (std::is_same_v<Args, ForwardArgs>) {
    return kRowsForward;
  } else {
    return kRowsBackward;
  }
}
inline bool HasResidual(const ForwardArgs& args) { return args.residual != nullptr; }
inline bool HasResidual(const BackwardArgs& args) { return args.dsum != nullptr; }

template <class T, class Args, size_t kLine>
auto KernelOfLine(const Args& args) {
  constexpr RowsInstance kInstance = TableOf<Args>()[kLine];
  constexpr int kVectors = kInstance.vectors;
  constexpr bool kBlock = kInstance.block;
  const Args* pass = nullptr;
  if constexpr (kInstance.general) {
    return KernelOf<T, kVectors, kBlock, General<kInstance.wide>>(pass);
  } else {
    const bool residual = HasResidual(args);
    if (args.centred) {
      return residual ? KernelOf<T, kVectors, kBlock, Plain<true, true>>(pass)
                      : KernelOf<T, kVectors, kBlock, Plain<true, false>>(pass);
    }
    return residual ? KernelOf<T, kVectors, kBlock, Plain<false, true>>(pass)
                    : KernelOf<T, kVectors, kBlock, Plain<false, false>>(pass);
  }
}

// Sets `kernel` if this line of the table is the geometry's.
template <class T, size_t kLine, class Args, class Kernel>
void TakeLine(const Args& args, const RowsGeometry& geometry, Kernel* kernel) {
  constexpr RowsInstance kInstance = TableOf<Args>()[kLine];
  if constexpr (kInstance.element_bytes == sizeof(T)) {
    if (kInstance.general == geometry.general && kInstance.block == geometry.block &&
        kInstance.vectors == geometry.vectors &&
        kInstance.wide == (geometry.width > 1)) {
      *kernel = KernelOfLine<T, Args, kLine>(args);
    }
  }
}

template <class T, class Kernel, class Args, size_t... kLines>
Kernel KernelOfGeometry(const Args& args, const RowsGeometry& geometry,
                        std::index_sequence<kLines...>) {
  Kernel kernel = nullptr;
  (TakeLine<T, kLines>(args, geometry, &kernel), ...);
  return kernel;
}

template <class T, class Kernel, class Args>
Status StartKernel(const Args& args, const Plan& plan, Stream stream) {
  constexpr size_t kLines = std::size(TableOf<Args>());
  const RowsGeometry& geometry = std::get<RowsGeometry>(plan.geometry);
  const Kernel kernel =
      KernelOfGeometry<T, Kernel>(args, geometry, std::make_index_sequence<kLines>());
  if (kernel == nullptr) {
    return Status::Internal("no instance of " + std::string(plan.launches[0].kernel) +
                            " for " + std::to_string(geometry.vectors) +
                            " accesses of " + std::to_string(geometry.width) +
                            " elements");
  }
  return device::Launch(kernel, plan.launches[0], stream, args, geometry);
}

template <class T>
Status Start(const ForwardArgs& args, const Plan& plan, Stream stream) {
  return StartKernel<T, ForwardKernel>(args, plan, stream);
}

template <class T>
Status Start(const BackwardArgs& args, const Plan& plan, Stream stream) {
  FUSEDNORM_RETURN_IF_ERROR((StartKernel<T, BackwardKernel>(args, plan, stream)));
  return plan.num_launches == 1 ? Status()
                                : columns::Start<T>(args.params, plan, stream);
}

}  // namespace rows
}  // namespace cuda
}  // namespace fusednorm
