#include "cuda/plan/plan.h"

#include <algorithm>

#include "cuda/plan/planning.h"
#include "cuda/plan/rows.h"
#include "cuda/plan/stream.h"
#include "cuda/plan/tile.h"

namespace fusednorm {
namespace cuda {
namespace {

template <class... Pointers>
bool AllAligned(Pointers... pointers) {
  return ((reinterpret_cast<uintptr_t>(pointers) % 16 == 0) && ...);
}

// What one launch or its second half reads again.
bool ReadsTwice(const Geometry& geometry) {
  return std::holds_alternative<StreamGeometry>(geometry) ||
         std::holds_alternative<ColumnsGeometry>(geometry);
}

Traffic TrafficOf(const Work& work, const Geometry& geometry) {
  const bool twice = ReadsTwice(geometry);
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
            tensors * tensor + (large ? params : 0), 2, twice};
  }
  return {2 * tensor + (large ? params : 0) + mask,
          others + statistics + (large ? params : 2 * params),
          tensors * tensor + (large ? 2 * params : 0), 2, twice};
}

// `all`: or only as many as it takes to find the best, which is what a launch needs.
std::vector<Plan> Candidates(const NormProblem& of_samples, const Device& device,
                             bool aligned, bool backward, bool params, bool all) {
  std::vector<Plan> plans;
  if (of_samples.num_elements() == 0) return {Plan()};
  const NormProblem problem = Simplified(of_samples);
  const Work work(problem, device, aligned, backward, params, all);
  const auto add = [&](void (*add_plans)(const Work&, std::vector<Plan>*)) {
    if (!Enough(work, plans)) add_plans(work, &plans);
  };
  if (problem.reduces_q && problem.p == 1) {
    add(backward ? AddRowsBackward : AddRowsForward);
    if (backward) add(AddColumns);
  }
  add(AddTile);
  add(AddStream);
  // The best of them is kept even if no grid is large enough: its launch says so.
  plans.erase(std::remove_if(plans.begin() + 1, plans.end(),
                             [](const Plan& plan) { return !Fits(plan); }),
              plans.end());
  if (plans.size() > 1 && !Fits(plans.front())) plans.erase(plans.begin());
  for (Plan& plan : plans) FinishPlan(work, TrafficOf(work, plan.geometry), &plan);
  return plans;
}

}  // namespace

void FinishPlan(const Work& work, const Traffic& traffic, Plan* plan) {
  plan->partial_bytes = RoundUp(plan->partial_bytes, 256);
  plan->param_bytes = RoundUp(plan->param_bytes, 256);
  plan->workspace_bytes =
      plan->partial_bytes + traffic.param_sums * plan->param_bytes + plan->count_bytes;
  // Where the tensors exceed L2, nobody will find the outputs there: they bypass it.
  plan->stream = traffic.tensors > work.device.l2_bytes;

  plan->least_bytes = traffic.read + traffic.other;
  plan->bytes_moved = plan->least_bytes;
  if (traffic.twice) plan->bytes_moved += traffic.read;
  plan->bytes_moved += 2 * (plan->partial_bytes + plan->count_bytes);
  if (work.params) plan->bytes_moved += 2 * traffic.param_sums * plan->param_bytes;
}

const char* Name(const Geometry& geometry) {
  return std::visit([](const auto& each) { return each.kName; }, geometry);
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

std::vector<Plan> ForwardCandidates(const NormProblem& problem, const Device& device,
                                    bool aligned) {
  return Candidates(problem, device, aligned, false, false, true);
}

std::vector<Plan> BackwardCandidates(const NormProblem& problem, const Device& device,
                                     bool aligned, bool params) {
  return Candidates(problem, device, aligned, true, params, true);
}

Plan PlanForward(const NormProblem& problem, const Device& device, bool aligned) {
  return Candidates(problem, device, aligned, false, false, false).front();
}

Plan PlanBackward(const NormProblem& problem, const Device& device, bool aligned,
                  bool params) {
  return Candidates(problem, device, aligned, true, params, false).front();
}

}  // namespace cuda
}  // namespace fusednorm
