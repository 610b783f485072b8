// The kernel API on emulated threads, for worker.py: copies arrays to buffers of
// exactly their size, so that AddressSanitizer sees every step beyond one.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <iterator>
#include <limits>
#include <string>
#include <variant>
#include <vector>

#include "core/signature.h"
#include "cuda/api/enqueue.h"
#include "cuda/api/norm.h"
#include "cuda/instances.h"
#include "cuda/plan/plan.h"
#include "cuda/plan/tuned.h"
#include "emulation/grid.h"

namespace fusednorm {
namespace cuda {

// What worker.py sends; the same fields in the same order there.
struct Request {
  int64_t n, p, g, k, q, param_sets, mask_n, mask_q;
  double epsilon;
  int32_t reduces_q, centred, data, param, activation;
  int32_t has_gamma, has_beta, has_residual, zero_centered, per_position, has_mask;
  int32_t pass, order;  // 0 forward, 1 backward, 2 second order
  int32_t resident;     // blocks that wait for others, at a time
  // Which of the plans, 0 the best; -1: the one that launches take; -2: the same where
  // there is only as much workspace as the best needs.
  int32_t candidate;
  int64_t offset;  // elements that data pointers are off a multiple of 16 bytes
  int32_t multiprocessors, max_cluster;
  int64_t max_threads_per_multiprocessor;
  int64_t shared_bytes_per_multiprocessor, shared_bytes_per_block, l2_bytes;
};

struct Array {
  void* data;  // null: the call has no such array
  int64_t bytes;
  int64_t element_bytes;  // of those that `offset` shifts, else 0
  int64_t place;          // the earlier array whose buffer this output takes, or -1
};

struct Answer {
  char scheme[32];
  char kernels[3][32];
  int32_t candidates, cluster, num_launches;
  // The geometry: its numbers in order, and their names with spaces between.
  int32_t num_numbers;
  int64_t numbers[16];
  char names[256];
  int64_t workspace_bytes;
  char error[512];
};

namespace {

// Memory of exactly the arrays' sizes, `offset` elements past a 16-byte boundary.
template <class Buffers>
class Memory {
 public:
  // `arrays`: one for each input and each output of the pass, in order.
  Memory(const Array* arrays, int64_t offset)
      : arrays_(arrays, arrays + kNumInputs + kNumOutputs) {
    for (const Array& array : arrays_) {
      char* memory = nullptr;
      char* data = nullptr;
      if (array.data != nullptr && array.place >= 0) {
        data = data_[static_cast<size_t>(array.place)];
      } else if (array.data != nullptr) {
        const int64_t shift = offset * array.element_bytes;
        // malloc aligns to 16 bytes, AddressSanitizer's too, and that one guards every
        // byte behind.
        memory =
            static_cast<char*>(std::malloc(static_cast<size_t>(shift + array.bytes)));
        std::memset(memory, emulation::kPoison, static_cast<size_t>(shift));
        data = memory + shift;
        std::memcpy(data, array.data, static_cast<size_t>(array.bytes));
      }
      memory_.push_back(memory);
      data_.push_back(data);
    }
    for (size_t i = 0; i < kNumInputs; ++i) {
      buffers_.*Signature<Buffers>::kInputs[i].buffer = data_[i];
    }
    for (size_t i = 0; i < kNumOutputs; ++i) {
      buffers_.*Signature<Buffers>::kOutputs[i].buffer = data_[kNumInputs + i];
    }
  }
  ~Memory() {
    for (size_t i = 0; i < arrays_.size(); ++i) {
      if (data_[i] == nullptr) continue;
      std::memcpy(arrays_[i].data, data_[i], static_cast<size_t>(arrays_[i].bytes));
    }
    for (char* memory : memory_) std::free(memory);
  }
  Memory(const Memory&) = delete;
  Memory& operator=(const Memory&) = delete;
  const Buffers& buffers() const { return buffers_; }

 private:
  static constexpr size_t kNumInputs = std::size(Signature<Buffers>::kInputs);
  static constexpr size_t kNumOutputs = std::size(Signature<Buffers>::kOutputs);

  const std::vector<Array> arrays_;
  std::vector<char*> memory_;
  std::vector<char*> data_;
  Buffers buffers_;
};

// What the device would refuse to launch. The scratch memory of a tile that is split
// needs more than a fake device has, but not more than every GPU has.
constexpr int64_t kSharedBytesOfEveryGpu = 48 << 10;
std::string Refused(const Plan& plan, const Device& device, int64_t element_bytes) {
  if (const auto* rows = std::get_if<RowsGeometry>(&plan.geometry)) {
    const bool forward = std::string(plan.launches[0].kernel) == "RowsForward";
    const auto find = [&](const auto& table) {
      return Find(table, static_cast<int>(element_bytes), rows->general,
                  rows->width > 1, rows->vectors, rows->block);
    };
    if (plan.launches[0].threads >
        (forward ? find(kRowsForward) : find(kRowsBackward)).threads) {
      return "more threads than the instance is compiled for";
    }
  }
  for (int i = 0; i < plan.num_launches; ++i) {
    const Launch& launch = plan.launches[i];
    if (launch.shared_bytes >
        std::max(device.shared_bytes_per_block, kSharedBytesOfEveryGpu)) {
      return std::string(launch.kernel) + ": more shared memory than a block may have";
    }
    if (launch.cluster > device.max_cluster) {
      return std::string(launch.kernel) + ": a larger cluster than the device has";
    }
    if (launch.blocks >= int64_t{1} << 31) {
      return std::string(launch.kernel) + ": more blocks than a grid may have";
    }
  }
  return "";
}

NormProblem ProblemOf(const Request& request) {
  NormProblem problem;
  problem.n = request.n;
  problem.p = request.p;
  problem.g = request.g;
  problem.k = request.k;
  problem.q = request.q;
  problem.param_sets = request.param_sets;
  problem.mask_n = request.mask_n;
  problem.mask_q = request.mask_q;
  problem.epsilon = request.epsilon;
  problem.reduces_q = request.reduces_q;
  problem.centred = request.centred;
  problem.data = static_cast<DataType>(request.data);
  problem.param = static_cast<DataType>(request.param);
  problem.activation = static_cast<Activation>(request.activation);
  problem.has_gamma = request.has_gamma;
  problem.has_beta = request.has_beta;
  problem.has_residual = request.has_residual;
  problem.zero_centered = request.zero_centered;
  problem.per_position = request.per_position;
  problem.has_mask = request.has_mask;
  return problem;
}

Device DeviceOf(const Request& request) {
  Device device;
  device.name = "emulated";
  device.major = request.max_cluster > 1 ? 9 : 8;
  device.multiprocessors = request.multiprocessors;
  device.max_cluster = request.max_cluster;
  device.max_threads_per_multiprocessor =
      static_cast<int>(request.max_threads_per_multiprocessor);
  device.shared_bytes_per_multiprocessor = request.shared_bytes_per_multiprocessor;
  device.shared_bytes_per_block = request.shared_bytes_per_block;
  device.l2_bytes = request.l2_bytes;
  return device;
}

void Copy(const std::string& from, char* to, size_t size) {
  std::snprintf(to, size, "%s", from.c_str());
}

}  // namespace

// Arrays in the order of the pass's Signature, inputs first; null: only the plan is
// made, for buffers at `offset`. Returns 0, or 1 with an error.
extern "C" int fusednorm_emulate(const Request* request, const Array* arrays,
                                 Answer* answer) {
  const NormProblem problem = ProblemOf(*request);
  const Device device = DeviceOf(*request);
  emulation::SetOrder(static_cast<uint32_t>(request->order));
  emulation::SetResident(request->resident);

  Status status;
  Plan plan;
  int candidates = 1;
  const auto choose = [&](const std::vector<Plan>& plans, auto&& launched) {
    candidates = static_cast<int>(plans.size());
    plan =
        request->candidate < 0
            ? launched()
            : plans[static_cast<size_t>(std::min(request->candidate, candidates - 1))];
  };
  const auto launched = [&](const auto& buffers) {
    const int64_t room =
        request->candidate == -1
            ? std::numeric_limits<int64_t>::max()
            : MakeUntunedPlan(problem, buffers, device).workspace_bytes;
    const auto allocate = [&](int64_t bytes, void**) {
      return bytes <= room ? Status() : Status::OutOfMemory("no room");
    };
    Plan made;
    void* none = nullptr;
    status = MakePlanAndWorkspace(problem, buffers, device, allocate, &made, &none);
    return made;
  };
  const auto run = [&](const auto& buffers, auto&& kernel) {
    // Exactly as long as the plan says.
    char* workspace = static_cast<char*>(std::malloc(plan.workspace_bytes));
    std::memset(workspace, emulation::kPoison,
                static_cast<size_t>(plan.workspace_bytes));
    status = kernel(problem, buffers, plan, workspace, nullptr);
    std::free(workspace);
  };
  if (arrays == nullptr) {
    const bool aligned = request->offset == 0;
    const bool params = request->has_gamma || request->has_beta;
    if (request->pass == 2) {
      plan = PlanSecondOrder(problem, device, aligned, request->has_gamma);
    } else if (request->pass == 1) {
      choose(BackwardCandidates(problem, device, aligned, params),
             [&] { return ChooseBackward(problem, device, aligned, params); });
    } else {
      choose(ForwardCandidates(problem, device, aligned),
             [&] { return ChooseForward(problem, device, aligned); });
    }
  } else if (request->pass == 2) {
    const Memory<SecondOrderBuffers> memory(arrays, request->offset);
    const SecondOrderBuffers& buffers = memory.buffers();
    plan =
        PlanSecondOrder(problem, device, Aligned(buffers), buffers.d_gamma != nullptr);
    run(buffers, SecondOrder);
  } else if (request->pass == 1) {
    const Memory<BackwardBuffers> memory(arrays, request->offset);
    const BackwardBuffers& buffers = memory.buffers();
    choose(BackwardCandidates(problem, device, Aligned(buffers), HasParams(buffers)),
           [&] { return launched(buffers); });
    run(buffers, Backward);
  } else {
    const Memory<ForwardBuffers> memory(arrays, request->offset);
    const ForwardBuffers& buffers = memory.buffers();
    choose(ForwardCandidates(problem, device, Aligned(buffers)),
           [&] { return launched(buffers); });
    run(buffers, Forward);
  }
  Copy(Name(plan.geometry), answer->scheme, sizeof(answer->scheme));
  for (int i = 0; i < plan.num_launches; ++i) {
    Copy(plan.launches[i].kernel, answer->kernels[i], sizeof(answer->kernels[i]));
  }
  answer->candidates = candidates;
  answer->cluster = plan.launches[0].cluster;
  answer->num_launches = plan.num_launches;
  std::string names;
  answer->num_numbers = 0;
  const auto add = [&](const char* name, int64_t number) {
    names += (names.empty() ? "" : " ") + std::string(name);
    answer->numbers[answer->num_numbers++] = number;
  };
  std::visit([&](const auto& geometry) { geometry.ForEach(add); }, plan.geometry);
  Copy(names, answer->names, sizeof(answer->names));
  answer->workspace_bytes = plan.workspace_bytes;
  const std::string refused =
      Refused(plan, device, static_cast<int64_t>(SizeOf(problem.data)));
  Copy(refused.empty() ? status.message() : refused, answer->error,
       sizeof(answer->error));
  return status.ok() ? 0 : 1;
}

// What XLA sets aside for the problem in a process with the device.
extern "C" int64_t fusednorm_most_workspace(const Request* request) {
  const NormProblem problem = ProblemOf(*request);
  const std::vector<Device> devices = {DeviceOf(*request)};
  return request->pass == 2   ? MostWorkspaceBytes<SecondOrderBuffers>(problem, devices)
         : request->pass == 1 ? MostWorkspaceBytes<BackwardBuffers>(problem, devices)
                              : MostWorkspaceBytes<ForwardBuffers>(problem, devices);
}

}  // namespace cuda
}  // namespace fusednorm
