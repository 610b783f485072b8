#include "cuda/plan_tile.h"

#include <numeric>

namespace fusednorm {
namespace cuda {
namespace {

// A tile's rows are at least one line of the cache, where the tensor's are.
constexpr int64_t kLineBytes = 128;
constexpr int64_t kMaxThreadsOfRow = 128;
constexpr double kFilled = 0.6;
// A split pays for its second kernel from here on.
constexpr int64_t kSplitBytes = int64_t{2} << 20;

// A row of columns is within one warp, so that shuffles add up its dgamma and dbeta.
void CutColumns(const Work& work, const Lines& lines, Plan* plan) {
  int64_t threads =
      std::min<int64_t>(kWarp, PowerOfTwo(CeilDiv(lines.line, plan->width)));
  while (threads * plan->width * work.element_bytes > kLineBytes &&
         lines.outer * CeilDiv(lines.line, threads * plan->width) <
             2 * work.device.multiprocessors) {
    threads /= 2;
  }
  plan->lanes = threads * plan->width;
  plan->lane_blocks = CeilDiv(lines.line, plan->lanes);
}

// Whole groups, in steps of whole accesses; or parts of a group that is too wide.
void CutGroups(const Work& work, const Lines& lines, Plan* plan) {
  const auto most = [&] { return kMaxThreadsOfRow * plan->width; };
  if (lines.group_lanes > most()) {
    if (lines.group_lanes % plan->width != 0) plan->width = 1;
    plan->parts = CeilDiv(lines.group_lanes, most());
    plan->lanes = RoundUp(CeilDiv(lines.group_lanes, plan->parts), plan->width);
    plan->parts = CeilDiv(lines.group_lanes, plan->lanes);
    plan->lane_blocks = lines.groups;
    return;
  }
  int64_t step = std::lcm(lines.group_lanes, int64_t{plan->width});
  if (step > most() && step < lines.line) {
    plan->width = 1;
    if (lines.group_lanes > most()) return CutGroups(work, lines, plan);
    step = lines.group_lanes;
  }
  plan->lanes =
      std::min(lines.line, step * CeilDiv(kLineBytes / work.element_bytes, step));
  if (plan->lanes > most()) plan->lanes = std::min(lines.line, step);
  // Wider, where that leaves enough tiles and they still fit on chip.
  const auto held = [&] {
    return lines.rows * plan->lanes * work.element_bytes * (work.backward ? 2 : 1);
  };
  while (2 * plan->lanes <= std::min(lines.line, most() / 2) &&
         4 * held() <= work.SharedBytesOfHalf() &&
         lines.outer * CeilDiv(lines.line, plan->lanes) >
             8 * work.device.multiprocessors) {
    plan->lanes *= 2;
  }
  plan->lane_blocks = CeilDiv(lines.line, plan->lanes);
}

int ThreadsFor(const Lines& lines, const Plan& plan) {
  constexpr int64_t kMostThreads = 256;
  const int64_t of_row = plan.lanes / plan.width;
  // No more rows of threads than rows.
  return static_cast<int>(std::max<int64_t>(
      2 * kWarp, std::min(kMostThreads, RoundUp(of_row * lines.rows, kWarp))));
}

}  // namespace

Lines::Lines(const NormProblem& problem)
    : outer(problem.n),
      rows(problem.reduces_q ? problem.p : problem.k),
      line(problem.reduces_q ? problem.g * problem.k * problem.q : problem.q),
      groups(problem.reduces_q ? problem.g : problem.q),
      group_lanes(problem.reduces_q ? problem.k * problem.q : 1),
      columns(!problem.reduces_q) {}

int CutTiles(const Work& work, const Lines& lines, Plan* plan) {
  plan->width = work.Width(lines.line);
  if (lines.columns) {
    CutColumns(work, lines, plan);
  } else {
    CutGroups(work, lines, plan);
  }
  return ThreadsFor(lines, *plan);
}

void PlanTile(const Work& work, Plan* plan) {
  const NormProblem& problem = work.problem;
  const Lines lines(problem);
  const int64_t multiprocessors = work.device.multiprocessors;
  const int threads = CutTiles(work, lines, plan);
  const int64_t thread_rows = threads / (plan->lanes / plan->width);
  const int64_t tile_bytes = TileBytes(work.compute_bytes, plan->lanes, thread_rows);
  const int64_t held = work.HeldBytes(plan->width) * (work.backward ? 2 : 1) * threads;
  const auto shared = [&](int64_t slabs) {
    return tile_bytes + CeilDiv(CeilDiv(lines.rows, slabs), thread_rows) * held;
  };
  const int64_t units = lines.outer * plan->lane_blocks;
  // Those of each position are written without being summed.
  const bool params = work.params && !problem.per_position;
  const bool lane_params = params && !lines.columns;
  const int64_t params_of_set = lines.columns ? lines.rows : lines.line;

  // The fewest slabs of a cluster that fit twice on a multiprocessor and fill the
  // device; else those that come nearest.
  int64_t slabs = 0;
  for (int64_t s = 1; s * plan->parts <= work.device.max_cluster; s *= 2) {
    if (slabs > 0 && lines.rows < 2 * s * thread_rows) break;
    if (shared(s) > work.SharedBytesOfBlock()) continue;
    slabs = s;
    if (shared(s) <= work.SharedBytesOfHalf() &&
        2 * units * plan->parts * s >= 3 * multiprocessors) {
      break;
    }
  }
  const int64_t tensor = problem.num_elements() * work.element_bytes;
  const bool filled = units * plan->parts * slabs >= kFilled * multiprocessors;
  if (slabs > 0 && (filled || tensor < kSplitBytes) && !problem.has_mask) {
    plan->variant = Variant::kTile;
    plan->slices = slabs;
    const int64_t cluster = plan->parts * slabs;
    const int64_t blocks_of_slot = plan->lane_blocks * cluster;
    // Where lanes' dgamma and dbeta are summed, few blocks that go on to the next
    // sample leave few partial sums.
    const int64_t most_slots =
        lane_params ? 2 * multiprocessors / blocks_of_slot : kMaxGrid / blocks_of_slot;
    plan->slots = std::max<int64_t>(1, std::min(lines.outer, most_slots));
    AddLaunch(plan, work.backward ? "TileBackward" : "TileForward",
              plan->slots * blocks_of_slot, threads, static_cast<int>(cluster),
              shared(slabs));
    if (params) {
      PlanParamSums(work, lines.columns ? units : plan->slots * slabs, params_of_set,
                    true, plan);
    }
  } else {
    plan->variant = Variant::kSplitTile;
    const int64_t most = CeilDiv(lines.rows, 4 * thread_rows);
    plan->slices = std::max<int64_t>(
        1, std::min(most, CeilDiv(4 * multiprocessors, units * plan->parts)));
    plan->slices = CeilDiv(lines.rows, CeilDiv(lines.rows, plan->slices));
    plan->slots = lines.outer;
    const int64_t blocks = units * plan->parts * plan->slices;
    plan->partial_bytes = (work.backward ? 2 : kMomentsNumbers) * lines.outer *
                          plan->slices * plan->parts * lines.groups *
                          work.compute_bytes;
    AddLaunch(plan, work.backward ? "TileSums" : "SplitTileMoments", blocks, threads, 1,
              tile_bytes);
    if (work.backward) AddCountMask(work, plan);
    AddLaunch(plan, work.backward ? "SplitTileGradient" : "SplitTileNormalize", blocks,
              threads, 1, std::max(tile_bytes, threads * work.compute_bytes));
    if (params) {
      PlanParamSums(work, lines.columns ? units : lines.outer * plan->slices,
                    params_of_set, false, plan);
    }
  }
}

}  // namespace cuda
}  // namespace fusednorm
