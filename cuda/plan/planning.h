// What the planners of all schemes share.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "cuda/kernels/common/shared_layout.h"
#include "cuda/plan/plan.h"
#include "cuda/plan/view.h"

namespace fusednorm {
namespace cuda {

inline int64_t CeilDiv(int64_t a, int64_t b) { return (a + b - 1) / b; }
inline int64_t RoundUp(int64_t a, int64_t b) { return CeilDiv(a, b) * b; }
// The smallest power of two >= a.
inline int64_t PowerOfTwo(int64_t a) {
  int64_t power = 1;
  while (power < a) power *= 2;
  return power;
}

// The largest b with 1 << b <= n, from 0 to `most`.
inline int Log2Floor(int64_t n, int most) {
  int bits = 0;
  while (bits < most && (int64_t{2} << bits) <= n) ++bits;
  return bits;
}
// The smallest b with 1 << b >= n, from 0 to `most`.
inline int Log2Ceil(int64_t n, int most) {
  int bits = 0;
  while (bits < most && (int64_t{1} << bits) < n) ++bits;
  return bits;
}

constexpr int kWarp = 32;
// The threads of a block for `work` pieces of work: at least two warps, and whole
// warps.
inline int WholeWarps(int64_t work, int most) {
  return static_cast<int>(
      std::min<int64_t>(most, std::max<int64_t>(2 * kWarp, RoundUp(work, kWarp))));
}

// Rounds of a persistent grid. So many make the last round short beside the others.
constexpr int64_t kRounds = 32;

// A problem to plan, and numbers that follow from it.
struct Work {
  Work(const NormProblem& problem, const Device& device, bool aligned, bool backward,
       bool params, bool all = true)
      : problem(problem),
        device(device),
        backward(backward),
        params(params),
        all(all),
        element_bytes(static_cast<int64_t>(SizeOf(problem.data))),
        compute_bytes(static_cast<int64_t>(SizeOf(ComputeType(problem.data)))),
        full_width(aligned ? 16 / element_bytes : 1) {}

  const NormProblem& problem;
  const Device& device;
  const bool backward;
  const bool params;  // backward: dgamma or dbeta is wanted
  const bool all;     // all plans are wanted, not only the best one
  const int64_t element_bytes;
  const int64_t compute_bytes;
  const int64_t full_width;  // elements of a 16-byte access

  // The elements of an access to stretches of `length` elements: 16 bytes of them if
  // that divides the stretch, otherwise one.
  int Width(int64_t length) const {
    return static_cast<int>(length % full_width == 0 ? full_width : 1);
  }
  // The bytes of an access's elements while they are in shared memory.
  int64_t HeldBytes(int width) const { return width > 1 ? 16 : compute_bytes; }
  int64_t SharedBytesOfBlock() const { return device.shared_bytes_per_block; }
  // The shared memory that a kernel may use without asking for more.
  int64_t SharedBytesUnasked() const {
    return std::min(SharedBytesOfBlock(), int64_t{48} << 10);
  }
  // With this much shared memory or less, two blocks share a multiprocessor, and one
  // computes while the other waits for memory. The device reserves 1 KB for each block.
  int64_t SharedBytesOfHalf() const {
    return std::min(SharedBytesOfBlock(),
                    device.shared_bytes_per_multiprocessor / 2 - 1024);
  }
};

// Whether no launch has more blocks than a grid may have.
inline bool Fits(const Plan& plan) {
  return std::all_of(plan.launches, plan.launches + plan.num_launches,
                     [](const Launch& launch) { return launch.blocks <= kMaxGrid; });
}
// Plans are added best first. Returns true if no more are wanted.
inline bool Enough(const Work& work, const std::vector<Plan>& plans) {
  return !work.all && !plans.empty() && Fits(plans.back());
}

// For forward and backward.
TensorBytes TensorsOf(const Work& work);
// Whether the tensors exceed L2. Nobody will find the outputs in L2 then, so they are
// written past it.
bool ExceedL2(const Work& work, const TensorBytes& tensors);

// Sets what follows from the launches and the tensors. `param_sums` is the number of
// gradients of parameters that may have partial sums.
void FinishPlan(const Work& work, const TensorBytes& tensors, int64_t param_sums,
                Plan* plan);

inline void AddLaunch(Plan* plan, const char* kernel, int64_t blocks, int threads,
                      int cluster, int64_t shared_bytes) {
  plan->launches[plan->num_launches++] = {kernel, blocks, threads, cluster,
                                          shared_bytes};
}

// Adds a kernel of its own for the second stage of `gradients` gradients.
inline void AddColumnSums(const Work& work, int64_t gradients, Plan* plan) {
  const int64_t blocks = std::min(CeilDiv(work.problem.num_params(), kWarp) * gradients,
                                  kRounds * work.device.multiprocessors);
  AddLaunch(plan, "ColumnSums", blocks, kColumnSumsThreads, 1,
            kColumnSumsThreads * work.compute_bytes);
}

// Plans partial sums of dgamma and dbeta: `sets` sets with `size` numbers each. Where
// one set has as many numbers as dgamma, it is dgamma itself.
inline void PlanParamSums(const Work& work, int64_t sets, int64_t size, bool own_kernel,
                          Plan* plan) {
  const NormProblem& problem = work.problem;
  if (sets == 1 && size == problem.num_params() &&
      problem.param == ComputeType(problem.data)) {
    return;
  }
  plan->sets = sets;
  plan->param_bytes = sets * size * work.compute_bytes;
  if (own_kernel)
    AddColumnSums(work, problem.has_gamma && problem.has_beta ? 2 : 1, plan);
}

// Adds the kernel that counts the visible positions of each sample of a mask. Samples
// are counted in pieces, so that a long sample is not the work of one block.
inline void AddCountMask(const Work& work, Plan* plan) {
  constexpr int kThreads = 256;
  constexpr int64_t kPiece = 8 << 10, kMostPieces = 64;
  const NormProblem& problem = work.problem;
  if (!problem.has_mask) return;
  plan->mask_pieces =
      std::min(kMostPieces, CeilDiv(problem.num_mask() / problem.mask_n, kPiece));
  const int64_t blocks = problem.mask_n * plan->mask_pieces;
  plan->count_bytes = blocks * work.compute_bytes;
  AddLaunch(plan, "CountMask", blocks, kThreads, 1, kWarpSums * work.compute_bytes);
}

}  // namespace cuda
}  // namespace fusednorm
