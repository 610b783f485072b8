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

// `all`: all candidates are wanted. Otherwise only the best one, which a launch needs.
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
  // The best plan is kept even if its grid is too large. Its launch then returns an
  // error.
  plans.erase(std::remove_if(plans.begin() + 1, plans.end(),
                             [](const Plan& plan) { return !Fits(plan); }),
              plans.end());
  if (plans.size() > 1 && !Fits(plans.front())) plans.erase(plans.begin());
  const TensorBytes tensors = TensorsOf(work);
  for (Plan& plan : plans) FinishPlan(work, tensors, 2, &plan);
  return plans;
}

}  // namespace

TensorBytes TensorsOf(const Work& work) {
  const NormProblem& problem = work.problem;
  TensorBytes bytes;
  bytes.data = problem.num_elements() * work.element_bytes;
  bytes.inputs = (work.backward ? 2 : 1) + problem.has_residual;
  bytes.outputs = work.backward ? 1 : 1 + problem.has_residual;
  bytes.mask = problem.has_mask ? problem.num_mask() : 0;
  const int64_t statistics =
      problem.num_groups() * work.compute_bytes * (problem.centred ? 2 : 1);
  (work.backward ? bytes.statistics_read : bytes.statistics_written) = statistics;
  bytes.params_read = problem.num_params() *
                      static_cast<int64_t>(SizeOf(problem.param)) *
                      (problem.has_gamma + problem.has_beta);
  bytes.params_written = work.backward ? bytes.params_read : 0;
  bytes.param_uses = problem.per_position ? 1 : problem.n / problem.param_sets;
  return bytes;
}

bool ExceedL2(const Work& work, const TensorBytes& tensors) {
  int64_t large = (tensors.inputs + tensors.outputs) * tensors.data;
  // Parameters that are as large as x count as tensors like x.
  if (work.problem.num_params() == work.problem.num_elements()) {
    large += tensors.params_read + tensors.params_written;
  }
  return large > work.device.l2_bytes;
}

void FinishPlan(const Work& work, const TensorBytes& tensors, int64_t param_sums,
                Plan* plan) {
  plan->partial_bytes = RoundUp(plan->partial_bytes, 256);
  plan->param_bytes = RoundUp(plan->param_bytes, 256);
  plan->workspace_bytes =
      plan->partial_bytes + param_sums * plan->param_bytes + plan->count_bytes;
  plan->tensors = tensors;
  plan->stream = ExceedL2(work, tensors);
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
