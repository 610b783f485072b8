// The plans of the second order: always split, since three tensors that are read twice
// and two that are written once leave little to be won by holding them on chip.

#include "core/second_order.h"

#include "cuda/kernels/second_order/limits.h"
#include "cuda/plan/planning.h"
#include "cuda/plan/rows.h"
#include "cuda/plan/tile.h"

namespace fusednorm {
namespace cuda {
namespace {

// Threads of a multiprocessor that keep its memory busy.
constexpr int64_t kWantedThreads = 1024;

int64_t RowsOf(const NormProblem& problem) { return problem.n * problem.g; }

int64_t SharedOfSums(const Work& work, int threads) {
  return kSecondOrderSums * (threads / kWarp) * work.compute_bytes;
}

void AddParams(const Work& work, int64_t sets, int64_t of_set, Plan* plan) {
  if (!work.params) return;
  plan->sets = sets;
  plan->param_bytes = sets * of_set * work.compute_bytes;
  AddColumnSums(work, 1, plan);
}

void PlanRows(const Work& work, Plan* plan) {
  const NormProblem& problem = work.problem;
  const int64_t rows = RowsOf(problem), length = problem.k;
  SplitRowsGeometry geometry;
  geometry.width = work.Width(length);
  geometry.vectors = SecondOrderVectors(work.element_bytes, geometry.width);
  const int64_t accesses = length / geometry.width;
  int threads = kSecondOrderThreads;
  if (accesses <= int64_t{kWarp} * geometry.vectors) {
    geometry.team = static_cast<int>(PowerOfTwo(CeilDiv(accesses, geometry.vectors)));
    geometry.slice = length;
  } else {
    threads = WholeWarps(CeilDiv(accesses, geometry.vectors), kSecondOrderThreads);
    geometry.team = threads;
    geometry.slice = int64_t{threads} * geometry.vectors * geometry.width;
  }
  geometry.slices = CeilDiv(length, geometry.slice);
  const int64_t teams = threads / geometry.team;
  const int64_t wanted = work.device.multiprocessors * kWantedThreads / threads;
  geometry.slots = std::min(rows, CeilDiv(wanted, geometry.slices) * teams);
  // A team keeps to rows of one group: there is a multiple of G of them.
  if (work.params && problem.g > 1) {
    geometry.slots =
        problem.g *
        std::max<int64_t>(1, std::min(problem.n, geometry.slots / problem.g));
  }
  plan->geometry = geometry;
  plan->partial_bytes = kSecondOrderSums * rows * geometry.slices * work.compute_bytes;
  const int64_t blocks = CeilDiv(geometry.slots, teams) * geometry.slices;
  AddLaunch(plan, "SecondOrderRowSums", blocks, threads, 1,
            teams > 1 ? 0 : SharedOfSums(work, threads));
  AddLaunch(plan, "SecondOrderRowGradient", blocks, threads, 1, 0);
  AddParams(work, geometry.slots / problem.g, problem.num_params(), plan);
}

void PlanRuns(const Work& work, Plan* plan) {
  const NormProblem& problem = work.problem;
  const int64_t rows = RowsOf(problem);
  RunsGeometry geometry;
  CutRuns(work, &geometry);
  const int64_t units = problem.k * geometry.pieces;
  const int threads = WholeWarps(units * geometry.team, kSecondOrderThreads);
  const int64_t wanted = work.device.multiprocessors * kWantedThreads / threads;
  geometry.slices = std::max<int64_t>(
      1, std::min(CeilDiv(units, threads / geometry.team), CeilDiv(wanted, rows)));
  geometry.slots = std::min(rows, CeilDiv(kRounds * wanted, geometry.slices));
  plan->geometry = geometry;
  plan->partial_bytes = kSecondOrderSums * rows * geometry.slices * work.compute_bytes;
  const int64_t blocks = geometry.slots * geometry.slices;
  AddLaunch(plan, "SecondOrderRuns", blocks, threads, 1, SharedOfSums(work, threads));
  AddLaunch(plan, "SecondOrderRuns", blocks, threads, 1, 0);
  AddParams(work, problem.n * geometry.pieces, problem.num_params(), plan);
}

void PlanTiles(const Work& work, Plan* plan) {
  const Lines lines(work.problem);
  TileGeometry geometry;
  const int threads = CutTiles(work, lines, &geometry);
  const int64_t thread_rows = threads / (geometry.lanes / geometry.width);
  const int64_t tiles_of_slot = geometry.lane_blocks * geometry.parts;
  const int64_t wanted = work.device.multiprocessors * kWantedThreads / threads;
  geometry.slabs =
      std::max<int64_t>(1, std::min(CeilDiv(lines.rows, 4 * thread_rows),
                                    CeilDiv(wanted, lines.outer * tiles_of_slot)));
  geometry.slabs = CeilDiv(lines.rows, CeilDiv(lines.rows, geometry.slabs));
  const int64_t blocks_of_slot = tiles_of_slot * geometry.slabs;
  // Where lanes' d_gamma is summed, few blocks that go on to the next sample leave few
  // partial sums.
  const int64_t most = work.params && !lines.columns ? wanted : kMaxGrid;
  geometry.slots = std::max<int64_t>(1, std::min(lines.outer, most / blocks_of_slot));
  plan->geometry = geometry;
  plan->partial_bytes = kSecondOrderSums * lines.outer * geometry.slabs *
                        geometry.parts * lines.groups * work.compute_bytes;
  const int64_t tile_bytes = TileBytes(work.compute_bytes, geometry.lanes, thread_rows);
  const int64_t groups = geometry.parts > 1 ? 1 : geometry.lanes / lines.group_lanes;
  const int64_t blocks = geometry.slots * blocks_of_slot;
  AddLaunch(plan, "SecondOrderTileSums", blocks, threads, 1, tile_bytes);
  AddLaunch(plan, "SecondOrderTileGradient", blocks, threads, 1,
            tile_bytes + kSecondOrderShares * groups * work.compute_bytes);
  if (lines.columns) {
    AddParams(work, lines.outer * geometry.lane_blocks, lines.rows, plan);
  } else {
    AddParams(work, geometry.slots * geometry.slabs, lines.line, plan);
  }
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
  const int64_t tensor = problem.num_elements() * work.element_bytes;
  // mean, rstd and drstd in, d_dmean and d_drstd out.
  const int64_t statistics =
      problem.num_groups() * work.compute_bytes * (problem.centred ? 5 : 3);
  const int64_t param_bytes = problem.num_params() *
                              static_cast<int64_t>(SizeOf(problem.param)) *
                              (3 * problem.has_gamma + problem.has_beta);
  FinishPlan(work,
             {3 * tensor, 2 * tensor + statistics + param_bytes, 5 * tensor, 1, true},
             &plan);
  return plan;
}

}  // namespace

Plan PlanSecondOrder(const NormProblem& problem, const Device& device, bool aligned,
                     bool params) {
  if (problem.num_elements() == 0) return Plan();
  // What belongs to one set of parameters runs as often as there are sets.
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
