// The plans of the second order. They always read the tensors twice. Three tensors are
// read twice and two are written once, so that little would be won by keeping them on
// chip.

#include "core/second_order.h"

#include <numeric>

#include "cuda/kernels/second_order/geometry.h"
#include "cuda/plan/planning.h"

namespace fusednorm {
namespace cuda {
namespace {

using second_order::kShares;
using second_order::kThreads;

// The threads of a multiprocessor that keep its memory busy.
constexpr int64_t kWantedThreads = 1024;

// The number of blocks that keep the device busy.
int64_t WantedBlocks(const Work& work, int threads) {
  return work.device.multiprocessors * kWantedThreads / threads;
}

// The numbers of the geometry that depend on the problem alone.
SecondOrderGeometry GeometryOf(const NormProblem& problem) {
  const bool columns = !problem.reduces_q;
  SecondOrderGeometry geometry;
  geometry.outer = problem.n;
  geometry.rows = columns ? problem.k : problem.p;
  geometry.line = columns ? problem.q : problem.g * problem.k * problem.q;
  geometry.group_lanes = columns ? 1 : problem.k * problem.q;
  geometry.groups = Divider(columns ? problem.q : problem.g);
  geometry.count = problem.n * geometry.groups.divisor();
  geometry.k = problem.k;
  geometry.q = Divider(problem.q);
  geometry.columns = columns;
  return geometry;
}

// Adds both kernels, whose shared memory differs, and `sets` partial sums of d_gamma
// with `of_set` numbers each.
void Finish(const Work& work, const SecondOrderGeometry& geometry, const char* kernel,
            int64_t blocks, int threads, int64_t shared_of_sums,
            int64_t shared_of_gradient, int64_t sets, int64_t of_set, Plan* plan) {
  plan->geometry = geometry;
  plan->partial_bytes = kSecondOrderSums * geometry.count * geometry.slices.divisor() *
                        work.compute_bytes;
  AddLaunch(plan, kernel, blocks, threads, 1, shared_of_sums * work.compute_bytes);
  AddLaunch(plan, kernel, blocks, threads, 1, shared_of_gradient * work.compute_bytes);
  if (!work.params) return;
  plan->sets = sets;
  plan->param_bytes = sets * of_set * work.compute_bytes;
  AddColumnSums(work, 1, plan);
}

void PlanRows(const Work& work, Plan* plan) {
  const NormProblem& problem = work.problem;
  const int64_t length = problem.k;
  SecondOrderGeometry geometry = GeometryOf(problem);
  geometry.width = work.Width(length);
  const int64_t vectors = second_order::Vectors(work.element_bytes, geometry.width);
  const int64_t accesses = length / geometry.width;
  int threads = kThreads;
  if (accesses <= kWarp * vectors) {
    geometry.team = static_cast<int>(PowerOfTwo(CeilDiv(accesses, vectors)));
    geometry.piece = length;
  } else {
    threads = WholeWarps(CeilDiv(accesses, vectors), kThreads);
    geometry.team = threads;
    geometry.piece = threads * vectors * geometry.width;
  }
  const int64_t slices = CeilDiv(length, geometry.piece);
  geometry.slices = Divider(slices);
  const int64_t teams = threads / geometry.team;
  geometry.slots =
      std::min(geometry.count, CeilDiv(WantedBlocks(work, threads), slices) * teams);
  // All rows of a team are of one group, so the number of teams is a multiple of G.
  if (work.params && problem.g > 1) {
    geometry.slots =
        problem.g *
        std::max<int64_t>(1, std::min(problem.n, geometry.slots / problem.g));
  }
  // Teams of a warp or less need no shared memory.
  Finish(work, geometry, "SecondOrderRows", CeilDiv(geometry.slots, teams) * slices,
         threads, teams > 1 ? 0 : kSecondOrderSums * (threads / kWarp), 0,
         geometry.slots / problem.g, problem.num_params(), plan);
}

void PlanRuns(const Work& work, Plan* plan) {
  constexpr int kAccessesOfPiece = 8;  // of each lane of a warp
  const NormProblem& problem = work.problem;
  const int64_t q = problem.q;
  SecondOrderGeometry geometry = GeometryOf(problem);
  geometry.runs = true;
  geometry.width = work.Width(q);
  const int64_t accesses = CeilDiv(q, geometry.width);
  geometry.team = static_cast<int>(std::min<int64_t>(kWarp, PowerOfTwo(accesses)));
  const int64_t most = CeilDiv(accesses, int64_t{kWarp} * kAccessesOfPiece);
  geometry.piece = CeilDiv(accesses, most) * geometry.width;
  const int64_t pieces = CeilDiv(q, geometry.piece);
  geometry.pieces = Divider(pieces);
  const int64_t units = problem.k * pieces;
  const int threads = WholeWarps(units * geometry.team, kThreads);
  const int64_t wanted = WantedBlocks(work, threads);
  const int64_t slices =
      std::max<int64_t>(1, std::min(CeilDiv(units, threads / geometry.team),
                                    CeilDiv(wanted, geometry.count)));
  geometry.slices = Divider(slices);
  geometry.slots = std::min(geometry.count, CeilDiv(kRounds * wanted, slices));
  Finish(work, geometry, "SecondOrderRuns", geometry.slots * slices, threads,
         kSecondOrderSums * (threads / kWarp), 0, problem.n * pieces,
         problem.num_params(), plan);
}

// How a line is cut into tiles.
struct Cut {
  int width;
  int64_t lanes;
  int64_t blocks;     // tiles, or groups that are too wide for one tile
  int64_t parts = 1;  // tiles of such a group
};

// The rows of a tile have at least one line of the cache, if the tensor's rows do.
constexpr int64_t kLineBytes = 128;

// A row of columns is within one warp, so that shuffles add up its d_gamma.
Cut CutColumns(const Work& work, const SecondOrderGeometry& geometry) {
  const int width = work.Width(geometry.line);
  int64_t threads = std::min<int64_t>(kWarp, PowerOfTwo(CeilDiv(geometry.line, width)));
  while (threads * width * work.element_bytes > kLineBytes &&
         geometry.outer * CeilDiv(geometry.line, threads * width) <
             2 * work.device.multiprocessors) {
    threads /= 2;
  }
  return {width, threads * width, CeilDiv(geometry.line, threads * width)};
}

// Tiles have whole groups of whole accesses, or a part of a group that is too wide.
Cut CutGroups(const Work& work, const SecondOrderGeometry& geometry) {
  constexpr int64_t kMostThreads = 128;  // of a row, unless it is a whole line
  const int64_t line = geometry.line, group = geometry.group_lanes;
  int width = work.Width(line);
  int64_t step = std::lcm(group, int64_t{width});
  if (group <= kMostThreads * width && step > kMostThreads * width &&
      (step < line || step > kThreads * width)) {
    width = 1;
    step = group;
  }
  if (group > kMostThreads * width) {
    if (group % width != 0) width = 1;
    const int64_t parts = CeilDiv(group, kMostThreads * width);
    const int64_t lanes = RoundUp(CeilDiv(group, parts), width);
    return {width, lanes, geometry.groups.divisor(), CeilDiv(group, lanes)};
  }
  const int64_t most = kMostThreads * width;
  int64_t lanes = std::min(line, step * CeilDiv(kLineBytes / work.element_bytes, step));
  if (lanes > most) lanes = std::min(line, step);
  // Tiles become wider if they are short and enough of them are left.
  while (2 * lanes <= std::min(line, most / 2) &&
         8 * geometry.rows * lanes * work.element_bytes <= work.SharedBytesOfHalf() &&
         geometry.outer * CeilDiv(line, lanes) > 8 * work.device.multiprocessors) {
    lanes *= 2;
  }
  return {width, lanes, CeilDiv(line, lanes)};
}

void PlanTiles(const Work& work, Plan* plan) {
  SecondOrderGeometry geometry = GeometryOf(work.problem);
  const bool columns = geometry.columns;
  const int64_t rows = geometry.rows, outer = geometry.outer;
  const Cut cut = columns ? CutColumns(work, geometry) : CutGroups(work, geometry);
  geometry.tiles = true;
  geometry.width = cut.width;
  geometry.lanes = static_cast<int>(cut.lanes);
  geometry.lane_blocks = Divider(cut.blocks);
  geometry.parts = Divider(cut.parts);
  // There are no more rows of threads than rows.
  const int64_t of_row = cut.lanes / cut.width;
  const int threads = WholeWarps(of_row * rows, kThreads);
  const int64_t thread_rows = threads / of_row;
  const int64_t tiles = cut.blocks * cut.parts;
  const int64_t wanted = WantedBlocks(work, threads);
  int64_t slabs = std::max<int64_t>(
      1, std::min(CeilDiv(rows, 4 * thread_rows), CeilDiv(wanted, outer * tiles)));
  geometry.slab_rows = CeilDiv(rows, slabs);
  slabs = CeilDiv(rows, geometry.slab_rows);
  geometry.slices = Divider(slabs * cut.parts);
  // Where d_gamma of lanes is summed, few blocks take one sample after the other, and
  // leave few partial sums.
  const int64_t most = work.params && !columns ? wanted : kMaxGrid;
  geometry.slots = std::max<int64_t>(1, std::min(outer, most / (tiles * slabs)));
  const second_order::TileLayout layout(cut.lanes, thread_rows);
  const int64_t groups = cut.parts > 1 ? 1 : cut.lanes / geometry.group_lanes;
  Finish(work, geometry, "SecondOrderTiles", geometry.slots * tiles * slabs, threads,
         layout.shares, layout.shares + kShares * groups,
         columns ? outer * cut.blocks : geometry.slots * slabs,
         columns ? rows : geometry.line, plan);
}

Plan MakePlan(const Work& work) {
  Plan plan;
  const NormProblem& problem = work.problem;
  if (!problem.reduces_q || problem.p > 1) {
    PlanTiles(work, &plan);
  } else if (problem.q == 1) {
    PlanRows(work, &plan);
  } else {
    PlanRuns(work, &plan);
  }
  const int64_t statistic = problem.num_groups() * work.compute_bytes;
  const int64_t param =
      problem.num_params() * static_cast<int64_t>(SizeOf(problem.param));
  TensorBytes tensors;
  tensors.data = problem.num_elements() * work.element_bytes;
  tensors.inputs = 3;
  tensors.outputs = 2;
  // mean, rstd and drstd are read; d_dmean and d_drstd are written.
  tensors.statistics_read = statistic * (problem.centred ? 3 : 2);
  tensors.statistics_written = statistic * (problem.centred ? 2 : 1);
  // gamma, ddgamma and ddbeta are read.
  tensors.params_read = param * (2 * problem.has_gamma + problem.has_beta);
  tensors.params_written = param * problem.has_gamma;
  tensors.param_uses = problem.n;
  FinishPlan(work, tensors, 1, &plan);
  return plan;
}

}  // namespace

Plan PlanSecondOrder(const NormProblem& problem, const Device& device, bool aligned,
                     bool params) {
  if (problem.num_elements() == 0) return Plan();
  // The launches for one set of parameters are repeated for each set.
  const NormProblem simple = Simplified(problem);
  const NormProblem one = OfOneSet(simple);
  if (simple.param_sets > 1) {
    aligned = aligned && BytesOf(one, Part::kData) % 16 == 0 &&
              BytesOf(one, Part::kParams) % 16 == 0;
  }
  Plan plan = MakePlan(Work(one, device, aligned, true, params));
  plan.repeats = simple.param_sets;
  return plan;
}

}  // namespace cuda
}  // namespace fusednorm
