// How host code starts kernels and fills memory: on a device in this file, under
// emulation in emulation/device.h.
#pragma once

#include "cuda/kernels/common/device.cuh"

#if !defined(FUSEDNORM_EMULATE)

#include <cuda_runtime.h>

#include <string>

#include "core/status.h"
#include "cuda/device/stream.h"
#include "cuda/plan/plan.h"

namespace fusednorm {
namespace cuda {
namespace device {

inline Status ToStatus(cudaError_t error, const std::string& what) {
  if (error == cudaSuccess) return Status();
  cudaGetLastError();  // clears the error, which the next launch would report otherwise
  const std::string message = what + ": " + cudaGetErrorString(error);
  return error == cudaErrorMemoryAllocation ? Status::OutOfMemory(message)
                                            : Status::Internal(message);
}

inline std::string Describe(const cuda::Launch& launch) {
  return std::string("CUDA kernel ") + launch.kernel + " (" +
         std::to_string(launch.blocks) + " blocks of " +
         std::to_string(launch.threads) + " threads, clusters of " +
         std::to_string(launch.cluster) + ", " + std::to_string(launch.shared_bytes) +
         " bytes of shared memory)";
}

template <class... Args>
Status Launch(void (*kernel)(Args...), const cuda::Launch& launch, Stream stream,
              const Args&... args) {
  // What a kernel may use without asking for it.
  constexpr int64_t kFreeSharedBytes = 48 << 10;
  constexpr int kFreeCluster = 8;
  if (launch.blocks > kMaxGrid) {
    return Status::Internal(Describe(launch) + ": more blocks than a grid may have");
  }
  const void* function = reinterpret_cast<const void*>(kernel);
  cudaError_t error = cudaSuccess;
  if (launch.shared_bytes > kFreeSharedBytes) {
    error = cudaFuncSetAttribute(function, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                 static_cast<int>(launch.shared_bytes));
  }
  if (error == cudaSuccess && launch.cluster > kFreeCluster) {
    error = cudaFuncSetAttribute(function,
                                 cudaFuncAttributeNonPortableClusterSizeAllowed, 1);
  }
  cudaLaunchConfig_t config = {};
  config.gridDim = dim3(static_cast<unsigned>(launch.blocks));
  config.blockDim = dim3(static_cast<unsigned>(launch.threads));
  config.dynamicSmemBytes = static_cast<size_t>(launch.shared_bytes);
  config.stream = stream;
  cudaLaunchAttribute attribute = {};
  if (launch.cluster > 1) {
    attribute.id = cudaLaunchAttributeClusterDimension;
    attribute.val.clusterDim.x = static_cast<unsigned>(launch.cluster);
    attribute.val.clusterDim.y = 1;
    attribute.val.clusterDim.z = 1;
    config.attrs = &attribute;
    config.numAttrs = 1;
  }
  if (error == cudaSuccess) error = cudaLaunchKernelEx(&config, kernel, Args(args)...);
  if (error == cudaSuccess) return Status();
  cudaGetLastError();  // clears the error, which is reported here
  return ToStatus(error, Describe(launch));
}

inline Status FillBytes(void* to, int byte, int64_t count, Stream stream) {
  return ToStatus(cudaMemsetAsync(to, byte, static_cast<size_t>(count), stream),
                  "filling " + std::to_string(count) + " bytes");
}

}  // namespace device
}  // namespace cuda
}  // namespace fusednorm

#endif  // FUSEDNORM_EMULATE
