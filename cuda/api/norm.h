// The kernel API on CUDA devices. This header needs no CUDA header.
#pragma once

#include <vector>

#include "core/problem.h"
#include "core/status.h"
#include "cuda/device/devices.h"
#include "cuda/device/stream.h"
#include "cuda/plan/plan.h"

#define FUSEDNORM_EXPORT __attribute__((visibility("default")))

namespace fusednorm {
namespace cuda {

// The devices of this machine; none without a driver. max_cluster is what the
// architecture allows, since finding out what runs would take a context on each device.
FUSEDNORM_EXPORT std::vector<Device> ListDevices();
// The device that the calling thread has selected. Its properties are read once. They
// are those of ListDevices, except for max_cluster, which is the largest of
// PossibleClusters that runs on the device.
FUSEDNORM_EXPORT Status CurrentDevice(const Device** device);

// Makes a device current for the calling thread, until this object is destroyed.
class FUSEDNORM_EXPORT ScopedDevice {
 public:
  ScopedDevice() = default;
  ~ScopedDevice();
  ScopedDevice(const ScopedDevice&) = delete;
  ScopedDevice& operator=(const ScopedDevice&) = delete;

  Status Enter(int device);

 private:
  int previous_ = -1;
};

// Enqueues y (and sum, mean, rstd) from x on the stream, which belongs to the current
// device. Buffers and workspace are device memory. The plan is one of ForwardCandidates
// for this problem, this device and these buffers. An error status names the plan.
FUSEDNORM_EXPORT Status Forward(const NormProblem& problem,
                                const ForwardBuffers& buffers, const Plan& plan,
                                void* workspace, Stream stream);
// Enqueues dx, and dgamma and dbeta unless they are null.
FUSEDNORM_EXPORT Status Backward(const NormProblem& problem,
                                 const BackwardBuffers& buffers, const Plan& plan,
                                 void* workspace, Stream stream);
// Enqueues the gradients of Backward. Refuses a problem with an activation.
FUSEDNORM_EXPORT Status SecondOrder(const NormProblem& problem,
                                    const SecondOrderBuffers& buffers, const Plan& plan,
                                    void* workspace, Stream stream);

}  // namespace cuda
}  // namespace fusednorm
