#include "cpu/partition.h"

#include <algorithm>

namespace fusednorm {
namespace cpu {
namespace {

// Enough tasks for any thread count met in practice to be balanced, few enough that
// combining them costs nothing.
constexpr int64_t kWantedTasks = 64;
// Below this a task is not worth a thread.
constexpr int64_t kMinTaskElements = 16384;
// Groups with shorter contiguous chunks than this are cheaper across lanes: whole
// groups (70 ns a row against 4.5 ns an element, measured), and one of P chunks.
constexpr int64_t kMinRowElements = 16;
constexpr int64_t kMinChunkElements = 64;
// dgamma/dbeta partials may take this much.
constexpr int64_t kMaxSetBytes = int64_t{64} << 20;

int64_t CeilDiv(int64_t a, int64_t b) { return (a + b - 1) / b; }

Partition PartitionUnits(const NormProblem& problem) {
  Partition part;
  const int64_t chunk = problem.k * problem.q;
  if (problem.reduces_q &&
      chunk >= (problem.p == 1 ? kMinRowElements : kMinChunkElements)) {
    part.walk = Walk::kRows;
    part.outer = problem.n;
    part.inner = problem.g;
    part.unit_elements = problem.p * chunk;
    return part;
  }
  part.walk = Walk::kLanes;
  if (problem.reduces_q) {
    // Whole short groups follow each other through the tensor as through one line.
    const bool one_line = problem.p == 1;
    const int64_t line_groups = one_line ? problem.n * problem.g : problem.g;
    part.line = line_groups * chunk;
    const int64_t groups = std::min(line_groups, kMaxLanes / chunk);
    part.lanes = groups * chunk;
    part.max_groups = groups;
    part.lane_blocks = CeilDiv(line_groups, groups);
    part.rows = problem.p;
    part.stride = part.line;
    part.outer = one_line ? part.lane_blocks : problem.n;
    part.inner = one_line ? 1 : part.lane_blocks;
    if (part.lane_blocks == 1) {
      const int64_t fold = std::min(problem.p, kMaxLanes / part.line);
      part.lanes *= fold;
      part.stride *= fold;
      part.rows = CeilDiv(problem.p, fold);
    }
  } else {
    part.line = problem.q;
    part.lanes = std::min(problem.q, kMaxLanes);
    part.max_groups = part.lanes;
    part.lane_blocks = CeilDiv(problem.q, part.lanes);
    part.rows = problem.k;
    part.stride = part.line;
    part.outer = problem.n * part.lane_blocks;
    part.inner = 1;
  }
  part.unit_elements = part.rows * part.lanes;
  return part;
}

// How many slices a unit can be cut into.
int64_t MaxSlices(const Partition& part) {
  const int64_t by_size = part.unit_elements / kMinTaskElements;
  return part.walk == Walk::kLanes ? std::min(by_size, part.rows) : by_size;
}

// Parameters that are not used as they come are copied in the compute type.
int64_t ParamBytes(const NormProblem& problem, int64_t params) {
  const DataType compute = ComputeType(problem.data);
  if (problem.param == compute && !problem.zero_centered) return 0;
  return params * problem.num_params() * static_cast<int64_t>(SizeOf(compute));
}

// What a pass that ends in gradients needs.
struct GradientPass {
  bool needs_sets;        // gradients of parameters are wanted,
  int64_t of_param;       // so many of each
  int64_t params;         // inputs like gamma
  int64_t sums;           // of a group
  int64_t contributions;  // that the group makes to its elements
};

Partition PartitionGradients(const NormProblem& problem, const GradientPass& pass) {
  Partition part = PartitionUnits(problem);
  const int64_t set_bytes = SetBytes(problem, pass.of_param);
  const int64_t max_sets =
      pass.needs_sets
          ? std::max<int64_t>(1, kMaxSetBytes / std::max<int64_t>(1, set_bytes))
          : part.outer;
  part.blocks = std::min({part.outer, max_sets, CeilDiv(kWantedTasks, part.inner)});
  if (!pass.needs_sets) part.blocks = part.outer;

  if (part.blocks * part.inner < kWantedTasks / 2) {
    const int64_t wanted =
        std::min(MaxSlices(part), CeilDiv(kWantedTasks, part.units()));
    if (!problem.reduces_q || (problem.p == 1 && problem.q == 1)) {
      // A slice of a column's or of a plain row's elements has parameters of its own.
      const int64_t slices =
          std::min(MaxSlices(part), CeilDiv(kWantedTasks, part.inner));
      if (slices > part.blocks) {
        part.slices = slices;
        part.slices_own_params = true;
      }
    } else if (wanted > 1 && (!pass.needs_sets || part.outer * wanted <= max_sets)) {
      part.slices = wanted;
    }
  }
  part.sets = !pass.needs_sets         ? 0
              : part.slices_own_params ? 1
              : part.slices > 1        ? part.outer * part.slices
                                       : part.blocks;
  part.workspace_bytes = part.sets * set_bytes + ParamBytes(problem, pass.params);
  if (part.slices > 1) {
    // The contributions take at most a double each.
    part.workspace_bytes += part.units() * part.max_groups *
                            (pass.sums * part.slices + pass.contributions) *
                            int64_t{sizeof(double)};
  }
  return part;
}

}  // namespace

Partition PartitionForward(const NormProblem& problem) {
  Partition part = PartitionUnits(problem);
  if (part.units() < kWantedTasks / 2) {
    part.slices = std::max<int64_t>(
        1, std::min(MaxSlices(part), CeilDiv(kWantedTasks, part.units())));
  }
  part.blocks = std::min(
      part.units(),
      std::max(kWantedTasks, part.units() * part.unit_elements / kMinTaskElements));
  if (part.slices > 1) {
    part.workspace_bytes =
        2 * part.units() * part.slices * part.max_groups * int64_t{sizeof(double)};
  }
  part.workspace_bytes += ParamBytes(problem, 2);
  return part;
}

Partition PartitionBackward(const NormProblem& problem) {
  return PartitionGradients(problem,
                            {problem.has_gamma || problem.has_beta, 2, 2, 2, 3});
}

Partition PartitionSecondOrder(const NormProblem& problem) {
  return PartitionGradients(problem, {problem.has_gamma, 1, 3, 7, 6});
}

}  // namespace cpu
}  // namespace fusednorm
