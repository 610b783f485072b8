// From a problem and its plan to the arguments of kernels.
#include <cassert>
#include <string>
#include <type_traits>
#include <variant>

#include "core/param_sets.h"
#include "cuda/api/norm.h"
#include "cuda/kernels/common/args.h"
#include "cuda/kernels/common/launch.cuh"
#include "cuda/kernels/kernels.h"
#include "cuda/plan/view.h"

namespace fusednorm {
namespace cuda {
namespace {

// The number of elements of an access.
int WidthOf(const Geometry& geometry) {
  return std::visit(
      [](const auto& each) {
        if constexpr (std::is_same_v<std::decay_t<decltype(each)>, EmptyGeometry>) {
          return 1;
        } else {
          return each.width;
        }
      },
      geometry);
}

NormArgs MakeArgs(const NormProblem& problem, const Plan& plan, const void* gamma,
                  const void* beta) {
  // Simplified leaves no other problems with several sets of parameters.
  assert(problem.param_sets == 1 ||
         (problem.p == 1 ? problem.g == 1 && (problem.q == 1 || !problem.reduces_q)
                         : problem.param_sets == problem.n));
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
  rows.by_sample = problem.param_sets > 1;
  rows.sets = Divider(rows.by_sample ? rows.count / problem.param_sets : problem.g);
  rows.samples = Divider(problem.param_sets);
  rows.q = Divider(problem.q);
  rows.whole_runs = problem.k == 1 || problem.q % WidthOf(plan.geometry) == 0;
  rows.mode = problem.q == 1   ? ParamMode::kAlong
              : problem.k == 1 ? ParamMode::kConstant
                               : ParamMode::kRuns;
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

// The arguments of the second stage of dgamma and dbeta, or of d_gamma.
ParamSums MakeParamSums(const NormProblem& problem, const Plan& plan) {
  ParamSums params;
  params.sets = plan.sets;
  params.params = problem.num_params();
  // With lines, each of a line's elements leaves a sum of its own.
  const auto* stream = std::get_if<StreamGeometry>(&plan.geometry);
  const auto* second_order = std::get_if<SecondOrderGeometry>(&plan.geometry);
  const bool lanes = std::holds_alternative<TileGeometry>(plan.geometry) ||
                     (stream != nullptr && !stream->by_runs) ||
                     (second_order != nullptr && second_order->tiles);
  params.q = Divider(lanes && problem.reduces_q ? problem.q : 1);
  params.narrow = problem.param == problem.data;
  return params;
}

Status WithPlan(const Status& status, const NormProblem& problem, const Plan& plan) {
  if (status.ok()) return status;
  const std::string message =
      status.message() + "; plan " + Name(plan.geometry) + " for [N, P, G, K, Q] = [" +
      std::to_string(problem.n) + ", " + std::to_string(problem.p) + ", " +
      std::to_string(problem.g) + ", " + std::to_string(problem.k) + ", " +
      std::to_string(problem.q) + "] of " + Name(problem.data);
  return status.out_of_memory() ? Status::OutOfMemory(message)
                                : Status::Internal(message);
}

template <class Args>
using Start = Status (*)(const Args&, const Plan&, Stream);

// The functions that start one scheme, one for each data type.
template <class Args>
struct Starts {
  Start<Args> of_float, of_half, of_bfloat16, of_double;

  Start<Args> Of(DataType data) const {
    switch (data) {
      case DataType::kFloat:
        return of_float;
      case DataType::kHalf:
        return of_half;
      case DataType::kBfloat16:
        return of_bfloat16;
      case DataType::kDouble:
        return of_double;
    }
    return nullptr;
  }
};

#define FUSEDNORM_STARTS(scheme)                                       \
  {scheme::Start<float>, scheme::Start<Half>, scheme::Start<Bfloat16>, \
   scheme::Start<double>}

Starts<ForwardArgs> StartsOf(const Geometry& geometry, const ForwardArgs*) {
  if (std::holds_alternative<RowsGeometry>(geometry)) return FUSEDNORM_STARTS(rows);
  if (std::holds_alternative<TileGeometry>(geometry)) {
    return {tile::Start<float>, tile::Start<Half>, tile::Start<Bfloat16>,
            nullptr};  // float64 has no such plan
  }
  if (std::holds_alternative<StreamGeometry>(geometry)) return FUSEDNORM_STARTS(stream);
  return {};
}

Starts<BackwardArgs> StartsOf(const Geometry& geometry, const BackwardArgs*) {
  if (std::holds_alternative<RowsGeometry>(geometry)) return FUSEDNORM_STARTS(rows);
  if (std::holds_alternative<TileGeometry>(geometry)) {
    return {tile::Start<float>, tile::Start<Half>, tile::Start<Bfloat16>,
            nullptr};  // float64 has no such plan
  }
  if (std::holds_alternative<StreamGeometry>(geometry)) return FUSEDNORM_STARTS(stream);
  if (std::holds_alternative<ColumnsGeometry>(geometry)) {
    return FUSEDNORM_STARTS(columns);
  }
  return {};
}

Starts<SecondOrderArgs> StartsOf(const Geometry&, const SecondOrderArgs*) {
  return FUSEDNORM_STARTS(second_order);
}

#undef FUSEDNORM_STARTS

template <class Args>
Status StartPlan(const NormProblem& problem, const Plan& plan, const Args& args,
                 Stream stream) {
  const Start<Args> start = StartsOf(plan.geometry, &args).Of(problem.data);
  if (start == nullptr) {
    return WithPlan(Status::Internal("no kernel"), problem, plan);
  }
  return WithPlan(start(args, plan, stream), problem, plan);
}

Status Run(const NormProblem& problem, const ForwardBuffers& buffers, const Plan& plan,
           void* workspace, Stream stream) {
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
  return StartPlan(problem, plan, args, stream);
}

Status Run(const NormProblem& problem, const BackwardBuffers& buffers, const Plan& plan,
           void* workspace, Stream stream) {
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
  // Parameters of each position have gradients that are not sums.
  if (!problem.per_position) {
    const auto partial = [&](void* gradient, char* of_two_stages) -> void* {
      return gradient == nullptr || plan.sets == 0 ? gradient : of_two_stages;
    };
    args.params.gamma = partial(buffers.dgamma, sums);
    args.params.beta = partial(buffers.dbeta, sums + plan.param_bytes);
  }
  args.mask = MakeMask(problem, plan, buffers.mask);
  args.mask.counts = sums + 2 * plan.param_bytes;
  return StartPlan(problem, plan, args, stream);
}

// The problem must have one set of parameters.
Status Run(const NormProblem& problem, const SecondOrderBuffers& buffers,
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
  return StartPlan(problem, plan, args, stream);
}

}  // namespace

Status Forward(const NormProblem& problem, const ForwardBuffers& buffers,
               const Plan& plan, void* workspace, Stream stream) {
  if (plan.empty()) {
    FUSEDNORM_RETURN_IF_ERROR(Fill(problem, buffers.mean, stream));
    return Fill(problem, buffers.rstd, stream);
  }
  return Run(Simplified(problem), buffers, plan, workspace, stream);
}

Status Backward(const NormProblem& problem, const BackwardBuffers& buffers,
                const Plan& plan, void* workspace, Stream stream) {
  if (plan.empty()) {
    FUSEDNORM_RETURN_IF_ERROR(
        FillZero(problem.num_params(), problem.param, buffers.dgamma, stream));
    return FillZero(problem.num_params(), problem.param, buffers.dbeta, stream);
  }
  return Run(Simplified(problem), buffers, plan, workspace, stream);
}

Status SecondOrder(const NormProblem& problem, const SecondOrderBuffers& buffers,
                   const Plan& plan, void* workspace, Stream stream) {
  FUSEDNORM_RETURN_IF_ERROR(CheckSecondOrder(problem));
  if (plan.empty()) {
    const DataType compute = ComputeType(problem.data);
    FUSEDNORM_RETURN_IF_ERROR(
        FillZero(problem.num_params(), problem.param, buffers.d_gamma, stream));
    FUSEDNORM_RETURN_IF_ERROR(
        FillZero(problem.num_groups(), compute, buffers.d_dmean, stream));
    return FillZero(problem.num_groups(), compute, buffers.d_drstd, stream);
  }
  // One set of parameters after the other. They share the workspace, because the stream
  // runs them in order.
  const NormProblem simple = Simplified(problem);
  const NormProblem one = OfOneSet(simple);
  for (int64_t set = 0; set < plan.repeats; ++set) {
    FUSEDNORM_RETURN_IF_ERROR(
        Run(one, BuffersOf(one, set, buffers), plan, workspace, stream));
  }
  return Status();
}

}  // namespace cuda
}  // namespace fusednorm
