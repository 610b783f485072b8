// From a problem to kernels on a stream: plan, workspace, launch. Used by all who bring
// device memory of their own: TensorFlow's ops and the Python module.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "core/problem.h"
#include "core/signature.h"
#include "core/status.h"
#include "cuda/api/norm.h"
#include "cuda/plan/plan.h"
#include "cuda/plan/tuned.h"

namespace fusednorm {
namespace cuda {

inline bool HasParams(const BackwardBuffers& buffers) {
  return buffers.dgamma != nullptr || buffers.dbeta != nullptr;
}

// The plan that runs.
inline Plan MakePlan(const NormProblem& problem, const ForwardBuffers& buffers,
                     const Device& device) {
  return ChooseForward(problem, device, Aligned(buffers));
}
inline Plan MakePlan(const NormProblem& problem, const BackwardBuffers& buffers,
                     const Device& device) {
  return ChooseBackward(problem, device, Aligned(buffers), HasParams(buffers));
}
inline Plan MakePlan(const NormProblem& problem, const SecondOrderBuffers& buffers,
                     const Device& device) {
  return PlanSecondOrder(problem, device, Aligned(buffers), buffers.d_gamma != nullptr);
}

// The plan that would run if the table of tuned plans did not name another one.
inline Plan MakeUntunedPlan(const NormProblem& problem, const ForwardBuffers& buffers,
                            const Device& device) {
  return PlanForward(problem, device, Aligned(buffers));
}
inline Plan MakeUntunedPlan(const NormProblem& problem, const BackwardBuffers& buffers,
                            const Device& device) {
  return PlanBackward(problem, device, Aligned(buffers), HasParams(buffers));
}
inline Plan MakeUntunedPlan(const NormProblem& problem,
                            const SecondOrderBuffers& buffers, const Device& device) {
  return MakePlan(problem, buffers, device);
}

// Buffers for everything that the problem has, all at `address`, which no kernel uses.
template <class Buffers>
Buffers BuffersAt(const NormProblem& problem, uintptr_t address) {
  Buffers buffers;
  for (const In<Buffers>& operand : Signature<Buffers>::kInputs) {
    if (!Has(problem, problem.centred, operand.with)) continue;
    buffers.*operand.buffer = reinterpret_cast<const void*>(address);
  }
  for (const Out<Buffers>& operand : Signature<Buffers>::kOutputs) {
    if (!Has(problem, problem.centred, operand.with)) continue;
    buffers.*operand.buffer = reinterpret_cast<void*>(address);
  }
  return buffers;
}

// The workspace that is enough for Enqueue on any of `devices`, which ListDevices
// returns. It is enough for each cluster size that CurrentDevice may find there, for
// buffers at any address, and with or without the table of tuned plans, since a
// compiled program may run in another process.
template <class Buffers>
int64_t MostWorkspaceBytes(const NormProblem& problem,
                           const std::vector<Device>& devices) {
  constexpr uintptr_t kAligned = 256;
  int64_t bytes = 0;
  for (Device device : devices) {
    for (const int cluster : PossibleClusters(device.max_cluster)) {
      device.max_cluster = cluster;
      for (const uintptr_t address : {kAligned, kAligned + 1}) {
        const auto buffers = BuffersAt<Buffers>(problem, address);
        bytes = std::max({bytes, MakePlan(problem, buffers, device).workspace_bytes,
                          MakeUntunedPlan(problem, buffers, device).workspace_bytes});
      }
    }
  }
  return bytes;
}

inline Status Run(const NormProblem& problem, const ForwardBuffers& buffers,
                  const Plan& plan, void* workspace, Stream stream) {
  return Forward(problem, buffers, plan, workspace, stream);
}
inline Status Run(const NormProblem& problem, const BackwardBuffers& buffers,
                  const Plan& plan, void* workspace, Stream stream) {
  return Backward(problem, buffers, plan, workspace, stream);
}
inline Status Run(const NormProblem& problem, const SecondOrderBuffers& buffers,
                  const Plan& plan, void* workspace, Stream stream) {
  return SecondOrder(problem, buffers, plan, workspace, stream);
}

// The plan that runs, and memory for it. `allocate(bytes, &data)` returns a Status and
// memory with an alignment of 256 bytes. If it has no room for a tuned plan, it is
// called a second time, for the untuned plan. This happens under XLA where a program
// was compiled before the table was there.
template <class Buffers, class Allocate>
Status MakePlanAndWorkspace(const NormProblem& problem, const Buffers& buffers,
                            const Device& device, Allocate&& allocate, Plan* plan,
                            void** workspace) {
  const auto find_workspace = [&] {
    *workspace = nullptr;
    return plan->workspace_bytes > 0 ? allocate(plan->workspace_bytes, workspace)
                                     : Status();
  };
  *plan = MakePlan(problem, buffers, device);
  if (find_workspace().ok()) return Status();
  *plan = MakeUntunedPlan(problem, buffers, device);
  return find_workspace();
}

// Runs the problem on the current device, to which the stream and the buffers belong.
// `allocate` is as above. The memory must live until the stream has run the kernels.
template <class Buffers, class Allocate>
Status Enqueue(const NormProblem& problem, const Buffers& buffers, Allocate&& allocate,
               Stream stream) {
  const Device* device = nullptr;
  FUSEDNORM_RETURN_IF_ERROR(CurrentDevice(&device));
  Plan plan;
  void* workspace = nullptr;
  FUSEDNORM_RETURN_IF_ERROR(
      MakePlanAndWorkspace(problem, buffers, *device, allocate, &plan, &workspace));
  return Run(problem, buffers, plan, workspace, stream);
}

}  // namespace cuda
}  // namespace fusednorm
