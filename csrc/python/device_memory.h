// What the module needs of CUDA. In a build without it, everything fails with a message
// that says so.
#pragma once

#include <cstdint>
#include <vector>

#include "core/problem.h"
#include "core/status.h"
#include "cuda/api/norm.h"

namespace fusednorm {

using cuda::ScopedDevice;

// Memory of the current device, usable by work that is enqueued on the stream from now
// on. `data` is null for no bytes. Workspaces and new outputs come from here. For
// tests, every byte is 0xFF, NaN, where the environment has FUSEDNORM_POISON=1: what is
// read and was never written then shows in the results.
Status AllocateOn(cuda::Stream stream, int64_t bytes, void** data);
// Frees it for work that is enqueued on the stream from now on.
void FreeOn(cuda::Stream stream, void* data);
// Waits for all work of the current device, then frees.
void FreeAfterAll(void* data);

// What is enqueued on `waiting` from now on starts after what is on `awaited` now.
Status MakeWait(cuda::Stream waiting, cuda::Stream awaited);

// Enqueues the kernels on a stream of the current device.
Status Enqueue(const NormProblem& problem, const ForwardBuffers& buffers,
               cuda::Stream stream);
Status Enqueue(const NormProblem& problem, const BackwardBuffers& buffers,
               cuda::Stream stream);
Status Enqueue(const NormProblem& problem, const SecondOrderBuffers& buffers,
               cuda::Stream stream);

// Empty where there is no device or no driver.
std::vector<cuda::Device> Devices();
// The first of them, with the largest cluster that runs there: as its launches see it.
Status FirstDevice(cuda::Device* device);

}  // namespace fusednorm
