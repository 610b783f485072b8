// From a problem and its plan to the arguments of kernels.
#include <string>

#include "core/param_sets.h"
#include "cuda/args.h"
#include "cuda/kernels.h"
#include "cuda/launch.cuh"
#include "cuda/norm.h"
#include "cuda/view.h"

namespace fusednorm {
namespace cuda {
namespace {

NormArgs MakeArgs(const NormProblem& problem, const Plan& plan, const void* gamma,
                  const void* beta) {
  NormArgs args;
  args.affine.gamma = gamma;
  args.affine.beta = beta;
  args.affine.narrow = problem.param == problem.data;
  args.affine.zero_centered = problem.zero_centered;
  args.activation = problem.activation;
  args.centred = problem.centred;
  args.stream = plan.stream;
  args.epsilon = problem.epsilon;
  args.inverse_count = 1.0 / static_cast<double>(problem.group_size());

  Rows& rows = args.rows;
  rows.count = problem.n * problem.g;
  rows.length = problem.k * problem.q;
  rows.k = problem.k;
  rows.g = Divider(problem.g);
  rows.q = Divider(problem.q);
  rows.whole_runs = problem.k == 1 || problem.q % plan.width == 0;
  const bool runs =
      plan.variant == Variant::kRuns || plan.variant == Variant::kSplitRuns;
  rows.mode = runs             ? ParamMode::kRuns
              : problem.q == 1 ? ParamMode::kAlong
              : problem.k == 1 ? ParamMode::kConstant
                               : ParamMode::kRuns;

  Tiles& tiles = args.tiles;
  const bool columns = !problem.reduces_q;
  tiles.outer = problem.n;
  tiles.rows = columns ? problem.k : problem.p;
  tiles.line = columns ? problem.q : problem.g * problem.k * problem.q;
  tiles.groups = columns ? problem.q : problem.g;
  tiles.group_lanes = columns ? 1 : problem.k * problem.q;
  tiles.columns = columns && !problem.per_position;
  tiles.positions = problem.per_position;
  tiles.q = Divider(problem.q);
  tiles.lanes = static_cast<int>(plan.lanes);
  tiles.lane_blocks = Divider(plan.lane_blocks);
  tiles.parts = Divider(plan.parts);
  tiles.slabs = Divider(plan.slices);
  tiles.slab_rows = (tiles.rows + plan.slices - 1) / plan.slices;
  tiles.slots = plan.slots;

  args.team = plan.team;
  args.slices = Divider(plan.slices);
  args.slice = plan.slice;
  args.slots = plan.slots;
  args.pieces = Divider(plan.pieces);
  args.piece = plan.piece;
  return args;
}

Mask MakeMask(const NormProblem& problem, const Plan& plan, const void* positions) {
  Mask mask;
  if (!problem.has_mask) return mask;
  mask.positions = static_cast<const uint8_t*>(positions);
  mask.groups = Divider(problem.groups_of_mask());
  mask.q = Divider(problem.mask_q);
  mask.sample = problem.num_mask() / problem.mask_n;
  mask.channels = problem.group_size() / mask.sample;
  mask.pieces = Divider(plan.mask_pieces);
  return mask;
}

Status Fill(const NormProblem& problem, void* statistic, Stream stream) {
  if (statistic == nullptr || problem.num_groups() == 0) return Status();
  const int64_t bytes =
      problem.num_groups() * static_cast<int64_t>(SizeOf(ComputeType(problem.data)));
  return device::FillBytes(statistic, 0xFF, bytes, stream);  // NaN
}

Status FillZero(int64_t count, DataType type, void* gradient, Stream stream) {
  if (gradient == nullptr || count == 0) return Status();
  return device::FillBytes(gradient, 0, count * static_cast<int64_t>(SizeOf(type)),
                           stream);
}

// Where dgamma and dbeta, or d_gamma, are summed in two stages.
ParamSums MakeParamSums(const NormProblem& problem, const Plan& plan) {
  ParamSums params;
  params.sets = plan.sets;
  params.params = problem.num_params();
  // Only tiles of groups leave a sum for each element of a line.
  const bool lanes =
      plan.variant == Variant::kTile || plan.variant == Variant::kSplitTile;
  params.q = Divider(lanes && problem.reduces_q ? problem.q : 1);
  params.narrow = problem.param == problem.data;
  return params;
}

Status WithPlan(const Status& status, const NormProblem& problem, const Plan& plan) {
  if (status.ok()) return status;
  const std::string message =
      status.message() + "; plan " + Name(plan.variant) + " for [N, P, G, K, Q] = [" +
      std::to_string(problem.n) + ", " + std::to_string(problem.p) + ", " +
      std::to_string(problem.g) + ", " + std::to_string(problem.k) + ", " +
      std::to_string(problem.q) + "] of " + Name(problem.data);
  return status.out_of_memory() ? Status::OutOfMemory(message)
                                : Status::Internal(message);
}

// The function of the problem's data type.
template <class Args>
Status RunOf(const NormProblem& problem, const Plan& plan, const Args& args,
             Stream stream, Status (*of_float)(const Args&, const Plan&, Stream),
             Status (*of_half)(const Args&, const Plan&, Stream),
             Status (*of_bfloat16)(const Args&, const Plan&, Stream),
             Status (*of_double)(const Args&, const Plan&, Stream)) {
  switch (problem.data) {
    case DataType::kFloat:
      return WithPlan(of_float(args, plan, stream), problem, plan);
    case DataType::kHalf:
      return WithPlan(of_half(args, plan, stream), problem, plan);
    case DataType::kBfloat16:
      return WithPlan(of_bfloat16(args, plan, stream), problem, plan);
    case DataType::kDouble:
      return WithPlan(of_double(args, plan, stream), problem, plan);
  }
  return Status::Internal("unknown data type");
}

// A problem with one set of parameters.
Status RunOne(const NormProblem& problem, const ForwardBuffers& buffers,
              const Plan& plan, void* workspace, Stream stream) {
  ForwardArgs args;
  static_cast<NormArgs&>(args) = MakeArgs(problem, plan, buffers.gamma, buffers.beta);
  args.x = buffers.x;
  args.residual = buffers.residual;
  args.y = buffers.y;
  args.sum = buffers.sum;
  args.mean = buffers.mean;
  args.rstd = buffers.rstd;
  args.partial = workspace;
  args.mask = MakeMask(problem, plan, buffers.mask);
  return RunOf(problem, plan, args, stream, ForwardFloat, ForwardHalf, ForwardBfloat16,
               ForwardDouble);
}

Status RunOne(const NormProblem& problem, const BackwardBuffers& buffers,
              const Plan& plan, void* workspace, Stream stream) {
  // Without an activation the gradient does not depend on beta.
  const bool needs_beta = problem.activation != Activation::kNone;
  BackwardArgs args;
  static_cast<NormArgs&>(args) =
      MakeArgs(problem, plan, buffers.gamma, needs_beta ? buffers.beta : nullptr);
  args.dy = buffers.dy;
  args.x = buffers.x;
  args.mean = buffers.mean;
  args.rstd = buffers.rstd;
  args.dsum = buffers.dsum;
  args.dmean = buffers.dmean;
  args.drstd = buffers.drstd;
  args.dx = buffers.dx;
  args.partial = workspace;
  char* sums = static_cast<char*>(workspace) + plan.partial_bytes;
  args.params = MakeParamSums(problem, plan);
  args.params.dgamma = buffers.dgamma;
  args.params.dbeta = buffers.dbeta;
  // Those of each position are no sums.
  if (!problem.per_position) {
    const auto partial = [&](void* gradient, char* of_two_stages) -> void* {
      return gradient == nullptr || plan.sets == 0 ? gradient : of_two_stages;
    };
    args.params.gamma = partial(buffers.dgamma, sums);
    args.params.beta = partial(buffers.dbeta, sums + plan.param_bytes);
  }
  args.mask = MakeMask(problem, plan, buffers.mask);
  args.mask.counts = sums + 2 * plan.param_bytes;
  return RunOf(problem, plan, args, stream, BackwardFloat, BackwardHalf,
               BackwardBfloat16, BackwardDouble);
}

Status RunOne(const NormProblem& problem, const SecondOrderBuffers& buffers,
              const Plan& plan, void* workspace, Stream stream) {
  SecondOrderArgs args;
  static_cast<NormArgs&>(args) = MakeArgs(problem, plan, buffers.gamma, nullptr);
  args.dy = buffers.dy;
  args.x = buffers.x;
  args.mean = buffers.mean;
  args.rstd = buffers.rstd;
  args.drstd = buffers.drstd;
  args.ddx = buffers.ddx;
  args.ddgamma = buffers.ddgamma;
  args.ddbeta = buffers.ddbeta;
  args.d_dy = buffers.d_dy;
  args.d_x = buffers.d_x;
  args.d_dmean = buffers.d_dmean;
  args.d_drstd = buffers.d_drstd;
  args.partial = workspace;
  args.params = MakeParamSums(problem, plan);
  args.params.dgamma = buffers.d_gamma;
  if (buffers.d_gamma != nullptr) {
    args.params.gamma = static_cast<char*>(workspace) + plan.partial_bytes;
  }
  return RunOf(problem, plan, args, stream, SecondOrderFloat, SecondOrderHalf,
               SecondOrderBfloat16, SecondOrderDouble);
}

// One set after the other. They share the workspace, as the stream runs them in order.
template <class Buffers>
Status RunSets(const NormProblem& problem, const Buffers& buffers, const Plan& plan,
               void* workspace, Stream stream) {
  const NormProblem simple = Simplified(problem);
  const NormProblem one = OfOneSet(simple);
  for (int64_t set = 0; set < simple.param_sets; ++set) {
    FUSEDNORM_RETURN_IF_ERROR(
        RunOne(one, BuffersOf(one, set, buffers), plan, workspace, stream));
  }
  return Status();
}

}  // namespace

Status Forward(const NormProblem& problem, const ForwardBuffers& buffers,
               const Plan& plan, void* workspace, Stream stream) {
  if (plan.variant == Variant::kEmpty) {
    FUSEDNORM_RETURN_IF_ERROR(Fill(problem, buffers.mean, stream));
    return Fill(problem, buffers.rstd, stream);
  }
  return RunSets(problem, buffers, plan, workspace, stream);
}

Status Backward(const NormProblem& problem, const BackwardBuffers& buffers,
                const Plan& plan, void* workspace, Stream stream) {
  if (plan.variant == Variant::kEmpty) {
    FUSEDNORM_RETURN_IF_ERROR(
        FillZero(problem.num_params(), problem.param, buffers.dgamma, stream));
    return FillZero(problem.num_params(), problem.param, buffers.dbeta, stream);
  }
  return RunSets(problem, buffers, plan, workspace, stream);
}

Status SecondOrder(const NormProblem& problem, const SecondOrderBuffers& buffers,
                   const Plan& plan, void* workspace, Stream stream) {
  FUSEDNORM_RETURN_IF_ERROR(CheckSecondOrder(problem));
  if (plan.variant == Variant::kEmpty) {
    const DataType compute = ComputeType(problem.data);
    FUSEDNORM_RETURN_IF_ERROR(
        FillZero(problem.num_params(), problem.param, buffers.d_gamma, stream));
    FUSEDNORM_RETURN_IF_ERROR(
        FillZero(problem.num_groups(), compute, buffers.d_dmean, stream));
    return FillZero(problem.num_groups(), compute, buffers.d_drstd, stream);
  }
  return RunSets(problem, buffers, plan, workspace, stream);
}

}  // namespace cuda
}  // namespace fusednorm
