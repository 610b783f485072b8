#include "cuda/plan.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "cuda/plan_rows.h"
#include "cuda/plan_tile.h"
#include "cuda/planning.h"

namespace fusednorm {
namespace cuda {
namespace {

template <class... Pointers>
bool AllAligned(Pointers... pointers) {
  return ((reinterpret_cast<uintptr_t>(pointers) % 16 == 0) && ...);
}

// What each kernel reaches of the bandwidth of a copy when it fills the device. The
// targets of the design until they are measured.
double Efficiency(Variant variant, bool backward) {
  switch (variant) {
    case Variant::kTile:
    case Variant::kSplitTile:
      return backward ? 0.80 : 0.88;
    default:
      return backward ? 0.85 : 0.92;
  }
}

// Seconds that a launch takes before any byte is moved.
constexpr double kLaunchSeconds = 2.5e-6;

Traffic TrafficOf(const Work& work) {
  const NormProblem& problem = work.problem;
  const int64_t tensor = problem.num_elements() * work.element_bytes;
  const int64_t statistics =
      problem.num_groups() * work.compute_bytes * (problem.centred ? 2 : 1);
  const int64_t params = problem.num_params() *
                         static_cast<int64_t>(SizeOf(problem.param)) *
                         (problem.has_gamma + problem.has_beta);
  const int64_t mask = problem.has_mask ? problem.num_mask() : 0;
  const int64_t others = work.backward ? (problem.has_residual ? 2 : 1) * tensor
                                       : (problem.has_residual ? 3 : 1) * tensor;
  const int64_t tensors = work.backward ? 3 : problem.has_residual ? 4 : 2;
  // As large as x, parameters count as it does.
  const bool large = problem.num_params() == problem.num_elements();
  if (!work.backward) {
    return {tensor, others + statistics + params + mask,
            tensors * tensor + (large ? params : 0), 2};
  }
  return {2 * tensor + (large ? params : 0) + mask,
          others + statistics + (large ? params : 2 * params),
          tensors * tensor + (large ? 2 * params : 0), 2};
}

Plan MakePlan(const Work& work) {
  Plan plan;
  const NormProblem& problem = work.problem;
  if (problem.reduces_q && problem.p == 1) {
    if (work.backward) {
      PlanRowsBackward(work, &plan);
    } else {
      PlanRowsForward(work, &plan);
    }
  } else {
    PlanTile(work, &plan);
  }
  FinishPlan(work, TrafficOf(work), &plan);
  return plan;
}

}  // namespace

void FinishPlan(const Work& work, const Traffic& traffic, Plan* plan) {
  plan->partial_bytes = RoundUp(plan->partial_bytes, 256);
  plan->param_bytes = RoundUp(plan->param_bytes, 256);
  plan->workspace_bytes =
      plan->partial_bytes + traffic.param_sums * plan->param_bytes + plan->count_bytes;
  // What all tensors leave of L2 is not worth keeping there.
  plan->stream = traffic.tensors > work.device.l2_bytes;

  plan->least_bytes = traffic.read + traffic.other;
  plan->bytes_moved = plan->least_bytes;
  const bool split = plan->variant == Variant::kSplitRows ||
                     plan->variant == Variant::kSplitRuns ||
                     plan->variant == Variant::kSplitTile;
  if (split) plan->bytes_moved += traffic.read;
  plan->bytes_moved += 2 * (plan->partial_bytes + plan->count_bytes);
  if (work.params) plan->bytes_moved += 2 * traffic.param_sums * plan->param_bytes;

  // Blocks that do not fill the device do not fill the memory's pipes either: 32 KB in
  // flight on each multiprocessor do.
  const Launch& first = plan->launches[0];
  const double threads = static_cast<double>(first.blocks) * first.threads;
  const double fill = std::min(1.0, threads / (work.device.multiprocessors * 512.0));
  const double bandwidth = work.device.bandwidth > 0 ? work.device.bandwidth : 1e12;
  const double seconds =
      plan->num_launches * kLaunchSeconds +
      plan->bytes_moved / (bandwidth * fill * Efficiency(plan->variant, work.backward));
  plan->predicted_share = plan->least_bytes / bandwidth / seconds;
}

const char* Name(Variant variant) {
  switch (variant) {
    case Variant::kEmpty:
      return "empty";
    case Variant::kWarpRows:
      return "warp_rows";
    case Variant::kBlockRows:
      return "block_rows";
    case Variant::kSharedRows:
      return "shared_rows";
    case Variant::kSplitRows:
      return "split_rows";
    case Variant::kRuns:
      return "runs";
    case Variant::kSplitRuns:
      return "split_runs";
    case Variant::kTile:
      return "tile";
    case Variant::kSplitTile:
      return "split_tile";
  }
  return "unknown";
}

bool Aligned(const ForwardBuffers& b) {
  return AllAligned(b.x, b.residual, b.gamma, b.beta, b.y, b.sum);
}
bool Aligned(const BackwardBuffers& b) {
  return AllAligned(b.dy, b.x, b.gamma, b.beta, b.dsum, b.dx, b.dgamma, b.dbeta);
}
bool Aligned(const SecondOrderBuffers& b) {
  return AllAligned(b.dy, b.x, b.gamma, b.ddx, b.ddgamma, b.ddbeta, b.d_dy, b.d_x);
}

Plan PlanForward(const NormProblem& problem, const Device& device, bool aligned) {
  return PlanSets(problem, aligned, [&](const NormProblem& one, bool one_aligned) {
    return MakePlan(Work(one, device, one_aligned, false, false));
  });
}

Plan PlanBackward(const NormProblem& problem, const Device& device, bool aligned,
                  bool params) {
  return PlanSets(problem, aligned, [&](const NormProblem& one, bool one_aligned) {
    return MakePlan(Work(one, device, one_aligned, true, params));
  });
}

}  // namespace cuda
}  // namespace fusednorm
