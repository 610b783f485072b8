#include "cuda/plan/tile.h"

#include <numeric>

namespace fusednorm {
namespace cuda {
namespace {

// A tile's rows are at least one line of the cache, where the tensor's are.
constexpr int64_t kLineBytes = 128;
constexpr int64_t kMostThreads = 256;      // of a block
constexpr int64_t kMaxThreadsOfRow = 128;  // unless it is a whole line
constexpr double kFilled = 0.6;
// A split pays for its second kernel from here on.
constexpr int64_t kSplitBytes = int64_t{2} << 20;

// A row of columns is within one warp, so that shuffles add up its dgamma and dbeta.
void CutColumns(const Work& work, const Lines& lines, TileGeometry* geometry) {
  int64_t threads =
      std::min<int64_t>(kWarp, PowerOfTwo(CeilDiv(lines.line, geometry->width)));
  while (threads * geometry->width * work.element_bytes > kLineBytes &&
         lines.outer * CeilDiv(lines.line, threads * geometry->width) <
             2 * work.device.multiprocessors) {
    threads /= 2;
  }
  geometry->lanes = threads * geometry->width;
  geometry->lane_blocks = CeilDiv(lines.line, geometry->lanes);
}

// Whole groups, in steps of whole accesses; or parts of a group that is too wide.
void CutGroups(const Work& work, const Lines& lines, TileGeometry* geometry) {
  const auto most = [&] { return kMaxThreadsOfRow * geometry->width; };
  if (lines.group_lanes > most()) {
    if (lines.group_lanes % geometry->width != 0) geometry->width = 1;
    geometry->parts = CeilDiv(lines.group_lanes, most());
    geometry->lanes =
        RoundUp(CeilDiv(lines.group_lanes, geometry->parts), geometry->width);
    geometry->parts = CeilDiv(lines.group_lanes, geometry->lanes);
    geometry->lane_blocks = lines.groups;
    return;
  }
  int64_t step = std::lcm(lines.group_lanes, int64_t{geometry->width});
  // A line that is a tile may be wider, but not than a block.
  if (step > most() && (step < lines.line || step > kMostThreads * geometry->width)) {
    geometry->width = 1;
    if (lines.group_lanes > most()) return CutGroups(work, lines, geometry);
    step = lines.group_lanes;
  }
  geometry->lanes =
      std::min(lines.line, step * CeilDiv(kLineBytes / work.element_bytes, step));
  if (geometry->lanes > most()) geometry->lanes = std::min(lines.line, step);
  // Wider, where that leaves enough tiles and they still fit on chip.
  const auto held = [&] {
    return lines.rows * geometry->lanes * work.element_bytes * (work.backward ? 2 : 1);
  };
  while (2 * geometry->lanes <= std::min(lines.line, most() / 2) &&
         4 * held() <= work.SharedBytesOfHalf() &&
         lines.outer * CeilDiv(lines.line, geometry->lanes) >
             8 * work.device.multiprocessors) {
    geometry->lanes *= 2;
  }
  geometry->lane_blocks = CeilDiv(lines.line, geometry->lanes);
}

int ThreadsFor(const Lines& lines, const TileGeometry& geometry) {
  const int64_t of_row = geometry.lanes / geometry.width;
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

int CutTiles(const Work& work, const Lines& lines, TileGeometry* geometry) {
  geometry->width = work.Width(lines.line);
  if (lines.columns) {
    CutColumns(work, lines, geometry);
  } else {
    CutGroups(work, lines, geometry);
  }
  return ThreadsFor(lines, *geometry);
}

namespace {

// What the plans of a problem share.
struct Tiling {
  explicit Tiling(const Work& work)
      : lines(work.problem),
        threads(CutTiles(work, lines, &geometry)),
        thread_rows(threads / (geometry.lanes / geometry.width)),
        tile_bytes(TileBytes(work.compute_bytes, geometry.lanes, thread_rows)),
        units(lines.outer * geometry.lane_blocks),
        params(work.params && !work.problem.per_position),
        params_of_set(work.problem.param_sets *
                      (lines.columns ? lines.rows : lines.line)) {}

  TileGeometry geometry;
  const Lines lines;
  const int threads;
  const int64_t thread_rows;
  const int64_t tile_bytes;
  const int64_t units;
  const bool params;  // those of each position are written without being summed
  const int64_t params_of_set;
};

// The fewest slabs of a cluster that fit twice on a multiprocessor and fill the device;
// else those that come nearest. 0: none fit.
int64_t ResidentSlabs(const Work& work, const Tiling& tiling, int64_t held) {
  const TileGeometry& geometry = tiling.geometry;
  const auto shared = [&](int64_t slabs) {
    return tiling.tile_bytes +
           CeilDiv(CeilDiv(tiling.lines.rows, slabs), tiling.thread_rows) * held;
  };
  int64_t slabs = 0;
  for (int64_t s = 1; s * geometry.parts <= work.device.max_cluster; s *= 2) {
    if (slabs > 0 && tiling.lines.rows < 2 * s * tiling.thread_rows) break;
    if (shared(s) > work.SharedBytesOfBlock()) continue;
    slabs = s;
    if (shared(s) <= work.SharedBytesOfHalf() &&
        2 * tiling.units * geometry.parts * s >= 3 * work.device.multiprocessors) {
      break;
    }
  }
  return slabs;
}

Plan ResidentPlan(const Work& work, const Tiling& tiling, int64_t slabs, int64_t held) {
  const NormProblem& problem = work.problem;
  const Lines& lines = tiling.lines;
  const int64_t multiprocessors = work.device.multiprocessors;
  const bool lane_params = tiling.params && !lines.columns;
  TileGeometry geometry = tiling.geometry;
  geometry.resident = true;
  geometry.slabs = slabs;
  const int64_t cluster = geometry.parts * slabs;
  const int64_t blocks_of_slot = geometry.lane_blocks * cluster;
  // Where lanes' dgamma and dbeta are summed, few blocks that go on to the next sample
  // leave few partial sums.
  const int64_t most_slots =
      lane_params ? 2 * multiprocessors / blocks_of_slot : kMaxGrid / blocks_of_slot;
  // A block has one sample only, where each has parameters of its own.
  geometry.slots = problem.param_sets > 1
                       ? lines.outer
                       : std::max<int64_t>(1, std::min(lines.outer, most_slots));
  Plan plan;
  plan.geometry = geometry;
  AddLaunch(&plan, work.backward ? "TileBackward" : "TileForward",
            geometry.slots * blocks_of_slot, tiling.threads, static_cast<int>(cluster),
            tiling.tile_bytes +
                CeilDiv(CeilDiv(lines.rows, slabs), tiling.thread_rows) * held);
  if (tiling.params) {
    const int64_t sets = lines.columns ? tiling.units : geometry.slots * slabs;
    PlanParamSums(work, sets / problem.param_sets, tiling.params_of_set, true, &plan);
  }
  return plan;
}

Plan SplitPlan(const Work& work, const Tiling& tiling) {
  const Lines& lines = tiling.lines;
  TileGeometry geometry = tiling.geometry;
  const int64_t most = CeilDiv(lines.rows, 4 * tiling.thread_rows);
  geometry.slabs = std::max<int64_t>(
      1, std::min(most, CeilDiv(4 * int64_t{work.device.multiprocessors},
                                tiling.units * geometry.parts)));
  geometry.slabs = CeilDiv(lines.rows, CeilDiv(lines.rows, geometry.slabs));
  geometry.slots = lines.outer;
  const int64_t blocks = tiling.units * geometry.parts * geometry.slabs;
  Plan plan;
  plan.geometry = geometry;
  plan.partial_bytes = (work.backward ? 2 : kMomentsNumbers) * lines.outer *
                       geometry.slabs * geometry.parts * lines.groups *
                       work.compute_bytes;
  AddLaunch(&plan, work.backward ? "TileBackward" : "SplitTileMoments", blocks,
            tiling.threads, 1, tiling.tile_bytes);
  if (work.backward) AddCountMask(work, &plan);
  AddLaunch(&plan, work.backward ? "SplitTileGradient" : "SplitTileNormalize", blocks,
            tiling.threads, 1,
            std::max(tiling.tile_bytes, tiling.threads * work.compute_bytes));
  if (tiling.params) {
    const int64_t sets = lines.columns ? tiling.units : lines.outer * geometry.slabs;
    PlanParamSums(work, sets / work.problem.param_sets, tiling.params_of_set, false,
                  &plan);
  }
  return plan;
}

}  // namespace

void AddTiles(const Work& work, std::vector<Plan>* plans) {
  const NormProblem& problem = work.problem;
  const Tiling tiling(work);
  const Plan split = SplitPlan(work, tiling);
  const int64_t held =
      work.HeldBytes(tiling.geometry.width) * (work.backward ? 2 : 1) * tiling.threads;
  const int64_t slabs = problem.has_mask ? 0 : ResidentSlabs(work, tiling, held);
  if (slabs == 0) {
    plans->push_back(split);
    return;
  }
  const Plan resident = ResidentPlan(work, tiling, slabs, held);
  const int64_t tensor = problem.num_elements() * work.element_bytes;
  const bool filled = tiling.units * tiling.geometry.parts * slabs >=
                      kFilled * work.device.multiprocessors;
  if (filled || tensor < kSplitBytes) {
    plans->insert(plans->end(), {resident, split});
  } else {
    plans->insert(plans->end(), {split, resident});
  }
}

}  // namespace cuda
}  // namespace fusednorm
