// The plans of the second order: always split, since three tensors that are read twice
// and two that are written once leave little to be won by holding them on chip.
#include "cuda/plan_second_order.h"

#include "core/second_order.h"
#include "cuda/plan_rows.h"
#include "cuda/plan_tile.h"
#include "cuda/planning.h"

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
  AddParamSums(work, plan);
}

void PlanRows(const Work& work, Plan* plan) {
  const NormProblem& problem = work.problem;
  const int64_t rows = RowsOf(problem), length = problem.k;
  plan->variant = Variant::kSplitRows;
  plan->width = work.Width(length);
  plan->vectors = SecondOrderVectors(work.element_bytes, plan->width);
  const int64_t accesses = length / plan->width;
  int threads = kSecondOrderThreads;
  if (accesses <= int64_t{kWarp} * plan->vectors) {
    plan->team = static_cast<int>(PowerOfTwo(CeilDiv(accesses, plan->vectors)));
    plan->slice = length;
  } else {
    threads = WholeWarps(CeilDiv(accesses, plan->vectors), kSecondOrderThreads);
    plan->team = threads;
    plan->slice = int64_t{threads} * plan->vectors * plan->width;
  }
  plan->slices = CeilDiv(length, plan->slice);
  const int64_t teams = threads / plan->team;
  const int64_t wanted = work.device.multiprocessors * kWantedThreads / threads;
  plan->slots = std::min(rows, CeilDiv(wanted, plan->slices) * teams);
  // A team keeps to rows of one group: there is a multiple of G of them.
  if (work.params && problem.g > 1) {
    plan->slots =
        problem.g * std::max<int64_t>(1, std::min(problem.n, plan->slots / problem.g));
  }
  plan->partial_bytes = kSecondOrderSums * rows * plan->slices * work.compute_bytes;
  const int64_t blocks = CeilDiv(plan->slots, teams) * plan->slices;
  AddLaunch(plan, "SecondOrderRowSums", blocks, threads, 1,
            teams > 1 ? 0 : SharedOfSums(work, threads));
  AddLaunch(plan, "SecondOrderRowGradient", blocks, threads, 1, 0);
  AddParams(work, plan->slots / problem.g, problem.num_params(), plan);
}

void PlanRuns(const Work& work, Plan* plan) {
  const NormProblem& problem = work.problem;
  const int64_t rows = RowsOf(problem);
  plan->variant = Variant::kSplitRuns;
  CutRuns(work, plan);
  const int64_t units = problem.k * plan->pieces;
  const int threads = WholeWarps(units * plan->team, kSecondOrderThreads);
  const int64_t wanted = work.device.multiprocessors * kWantedThreads / threads;
  plan->slices = std::max<int64_t>(
      1, std::min(CeilDiv(units, threads / plan->team), CeilDiv(wanted, rows)));
  plan->slots = std::min(rows, CeilDiv(kRounds * wanted, plan->slices));
  plan->partial_bytes = kSecondOrderSums * rows * plan->slices * work.compute_bytes;
  const int64_t blocks = plan->slots * plan->slices;
  AddLaunch(plan, "SecondOrderRunSums", blocks, threads, 1,
            SharedOfSums(work, threads));
  AddLaunch(plan, "SecondOrderRunGradient", blocks, threads, 1, 0);
  AddParams(work, problem.n * plan->pieces, problem.num_params(), plan);
}

void PlanTiles(const Work& work, Plan* plan) {
  const Lines lines(work.problem);
  plan->variant = Variant::kSplitTile;
  const int threads = CutTiles(work, lines, plan);
  const int64_t thread_rows = threads / (plan->lanes / plan->width);
  const int64_t tiles_of_slot = plan->lane_blocks * plan->parts;
  const int64_t wanted = work.device.multiprocessors * kWantedThreads / threads;
  plan->slices =
      std::max<int64_t>(1, std::min(CeilDiv(lines.rows, 4 * thread_rows),
                                    CeilDiv(wanted, lines.outer * tiles_of_slot)));
  plan->slices = CeilDiv(lines.rows, CeilDiv(lines.rows, plan->slices));
  const int64_t blocks_of_slot = tiles_of_slot * plan->slices;
  // Where lanes' d_gamma is summed, few blocks that go on to the next sample leave few
  // partial sums.
  const int64_t most = work.params && !lines.columns ? wanted : kMaxGrid;
  plan->slots = std::max<int64_t>(1, std::min(lines.outer, most / blocks_of_slot));
  plan->partial_bytes = kSecondOrderSums * lines.outer * plan->slices * plan->parts *
                        lines.groups * work.compute_bytes;
  const int64_t tile_bytes = TileBytes(work.compute_bytes, plan->lanes, thread_rows);
  const int64_t groups = plan->parts > 1 ? 1 : plan->lanes / lines.group_lanes;
  const int64_t blocks = plan->slots * blocks_of_slot;
  AddLaunch(plan, "SecondOrderTileSums", blocks, threads, 1, tile_bytes);
  AddLaunch(plan, "SecondOrderTileGradient", blocks, threads, 1,
            tile_bytes + kSecondOrderShares * groups * work.compute_bytes);
  if (lines.columns) {
    AddParams(work, lines.outer * plan->lane_blocks, lines.rows, plan);
  } else {
    AddParams(work, plan->slots * plan->slices, lines.line, plan);
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
  FinishPlan(work, {3 * tensor, 2 * tensor + statistics + param_bytes, 5 * tensor, 1},
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
