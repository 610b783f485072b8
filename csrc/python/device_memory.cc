#include "python/device_memory.h"

#if defined(FUSEDNORM_WITH_CUDA)

#include <cuda_runtime.h>

#include <cstdlib>
#include <cstring>
#include <string>

#include "cuda/api/enqueue.h"

namespace fusednorm {
namespace {

Status ToStatus(const char* call, cudaError_t error) {
  if (error == cudaSuccess) return Status();
  cudaGetLastError();  // or the next launch reports this one
  const std::string message = std::string(call) + ": " + cudaGetErrorString(error);
  return error == cudaErrorMemoryAllocation ? Status::OutOfMemory(message)
                                            : Status::Internal(message);
}

#define FUSEDNORM_CUDA(call, ...) ToStatus(#call, call(__VA_ARGS__))

bool Poisons() {
  static const bool poisons = [] {
    const char* value = std::getenv("FUSEDNORM_POISON");
    return value != nullptr && std::strcmp(value, "1") == 0;
  }();
  return poisons;
}

template <class Buffers>
Status EnqueueWithWorkspace(const NormProblem& problem, const Buffers& buffers,
                            cuda::Stream stream) {
  void* workspace = nullptr;
  const auto allocate = [&](int64_t bytes, void** data) {
    FUSEDNORM_RETURN_IF_ERROR(AllocateOn(stream, bytes, data));
    workspace = *data;
    return Status();
  };
  const Status status = cuda::Enqueue(problem, buffers, allocate, stream);
  FreeOn(stream, workspace);
  return status;
}

}  // namespace

Status AllocateOn(cuda::Stream stream, int64_t bytes, void** data) {
  *data = nullptr;
  if (bytes == 0) return Status();
  const auto size = static_cast<size_t>(bytes);
  FUSEDNORM_RETURN_IF_ERROR(FUSEDNORM_CUDA(cudaMallocAsync, data, size, stream));
  if (!Poisons()) return Status();
  return FUSEDNORM_CUDA(cudaMemsetAsync, *data, 0xFF, size, stream);
}

void FreeOn(cuda::Stream stream, void* data) {
  if (data != nullptr) cudaFreeAsync(data, stream);
}

void FreeAfterAll(void* data) {
  if (data == nullptr) return;
  cudaDeviceSynchronize();
  cudaFree(data);
}

Status MakeWait(cuda::Stream waiting, cuda::Stream awaited) {
  cudaEvent_t event;
  FUSEDNORM_RETURN_IF_ERROR(
      FUSEDNORM_CUDA(cudaEventCreateWithFlags, &event, cudaEventDisableTiming));
  Status status = FUSEDNORM_CUDA(cudaEventRecord, event, awaited);
  if (status.ok()) status = FUSEDNORM_CUDA(cudaStreamWaitEvent, waiting, event, 0);
  cudaEventDestroy(event);  // once it has come
  return status;
}

Status Enqueue(const NormProblem& problem, const ForwardBuffers& buffers,
               cuda::Stream stream) {
  return EnqueueWithWorkspace(problem, buffers, stream);
}

Status Enqueue(const NormProblem& problem, const BackwardBuffers& buffers,
               cuda::Stream stream) {
  return EnqueueWithWorkspace(problem, buffers, stream);
}

Status Enqueue(const NormProblem& problem, const SecondOrderBuffers& buffers,
               cuda::Stream stream) {
  return EnqueueWithWorkspace(problem, buffers, stream);
}

std::vector<cuda::Device> Devices() { return cuda::ListDevices(); }

Status FirstDevice(cuda::Device* device) {
  ScopedDevice current;
  FUSEDNORM_RETURN_IF_ERROR(current.Enter(0));
  const cuda::Device* found = nullptr;
  FUSEDNORM_RETURN_IF_ERROR(cuda::CurrentDevice(&found));
  *device = *found;
  return Status();
}

}  // namespace fusednorm

#else

namespace fusednorm {
namespace {

Status NoCuda() {
  return Status::Internal(
      "this build has no CUDA kernels: no CUDA toolkit was found when fusednorm was "
      "built, or FUSEDNORM_CUDA was off. Reinstall it with FUSEDNORM_CUDA=on where "
      "there "
      "is one");
}

}  // namespace

cuda::ScopedDevice::~ScopedDevice() = default;
Status cuda::ScopedDevice::Enter(int) {
  static_cast<void>(previous_);
  return NoCuda();
}
Status AllocateOn(cuda::Stream, int64_t, void**) { return NoCuda(); }
void FreeOn(cuda::Stream, void*) {}
void FreeAfterAll(void*) {}
Status MakeWait(cuda::Stream, cuda::Stream) { return NoCuda(); }
Status Enqueue(const NormProblem&, const ForwardBuffers&, cuda::Stream) {
  return NoCuda();
}
Status Enqueue(const NormProblem&, const BackwardBuffers&, cuda::Stream) {
  return NoCuda();
}
Status Enqueue(const NormProblem&, const SecondOrderBuffers&, cuda::Stream) {
  return NoCuda();
}
std::vector<cuda::Device> Devices() { return {}; }
Status FirstDevice(cuda::Device*) { return NoCuda(); }

}  // namespace fusednorm

#endif  // FUSEDNORM_WITH_CUDA
