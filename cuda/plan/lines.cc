// How the threads of a block are laid over lines (kernels/lines/geometry.h).
#include "cuda/plan/lines.h"

#include <algorithm>
#include <numeric>

namespace fusednorm {
namespace cuda {
namespace {

constexpr int kTeamBits = 5;  // a team is within a warp
// In narrower tiles, L2 would load parts of its lines that no block needs at the time.
constexpr int64_t kTileBytes = 128;

// The tensor as lines, before these are cut into tiles.
struct Lines {
  int64_t rows, line, group_lanes, groups;
  bool columns;

  explicit Lines(const NormProblem& problem) : columns(!problem.reduces_q) {
    rows = columns ? problem.k : problem.p;
    line = columns ? problem.q : problem.g * problem.k * problem.q;
    group_lanes = columns ? 1 : problem.k * problem.q;
    groups = columns ? problem.q : problem.g;
  }
};

// Sets the width of an access, and the number of rows that form a line of whole
// accesses.
void SetWidth(const Work& work, const LinesWanted& wanted, const Lines& lines,
              int64_t* width, int64_t* copies) {
  const int64_t full = work.full_width;
  const int64_t most = wanted.threads * full;
  *width = full;
  *copies = 1;
  if (lines.line % full == 0) {
    // A group that is cut into parts must consist of whole accesses.
    const int64_t unit = lines.columns ? full : std::lcm(lines.group_lanes, full);
    if (unit > most && lines.group_lanes % full != 0) *width = 1;
    return;
  }
  *copies = full / std::gcd(lines.line, full);
  // If the tensor is a whole number of accesses, the copies divide the rows, so that
  // all lines are complete.
  const bool whole = lines.rows * lines.line % full == 0;
  if (lines.columns || !whole || *copies * lines.line > most || work.problem.has_mask ||
      work.problem.per_position) {
    *width = *copies = 1;
  }
}

// Sets the number of lanes of a tile, and of its parts.
void SetTiles(const Work& work, const LinesWanted& wanted, const Lines& lines,
              int64_t width, int64_t copies, LinesGeometry* g) {
  const int64_t line = lines.line * copies;
  int64_t most = wanted.threads * width;
  int64_t parts = 1;
  // The threads of a row of columns are within one warp, since they add up by shuffles.
  if (lines.columns) most = std::min(most, kWarp / 2 * width);
  const int64_t unit = copies > 1      ? line
                       : lines.columns ? width
                                       : std::lcm(lines.group_lanes, width);
  if (unit > most) {
    g->tile_lanes = lines.group_lanes;
    parts = CeilDiv(lines.group_lanes, most);
    g->part_lanes = RoundUp(CeilDiv(lines.group_lanes, parts), width);
    parts = CeilDiv(lines.group_lanes, g->part_lanes);
  } else {
    const int64_t units = CeilDiv(line, unit);
    const int64_t unit_bytes = unit * work.element_bytes;
    const int64_t narrow = CeilDiv(kTileBytes, unit_bytes);
    const int64_t small = wanted.set_bytes / (lines.rows * unit_bytes + 1);
    int64_t of_tile = std::min({units, most / unit, std::max(narrow, small)});
    of_tile = CeilDiv(units, CeilDiv(units, of_tile));  // tiles of equal size
    g->tile_lanes = g->part_lanes = of_tile * unit;
  }
  g->tiles = Divider(CeilDiv(line, g->tile_lanes));
  g->parts = SmallDivider(parts);
  g->tile_groups =
      static_cast<int>(parts > 1       ? 1
                       : lines.columns ? g->tile_lanes
                                       : g->tile_lanes / copies / lines.group_lanes);
}

// Sets the rows and columns of threads, and the teams that join them.
void SetThreads(const Work& work, const Lines& lines, const LinesWanted& wanted,
                int threads, LinesGeometry* g) {
  int64_t columns = CeilDiv(g->part_lanes, g->width);
  if (lines.columns) columns = PowerOfTwo(columns);
  const int64_t rows = std::max<int64_t>(
      1, std::min(threads / columns, CeilDiv(g->rows, wanted.row_blocks)));
  g->thread_columns = SmallDivider(columns);
  g->thread_rows = SmallDivider(rows);
  g->fold = 1;
  // With a mask, the lanes of a thread may have different counts and cannot be folded.
  if (!wanted.general && !lines.columns) {
    g->fold = static_cast<int>(g->tile_groups == 1
                                   ? g->width
                                   : std::gcd(lines.group_lanes, int64_t{g->width}));
  }
  g->fold_bits = Log2Floor(g->fold, kTeamBits);
  g->table = LaneTable(work.backward ? g->width : g->width / g->fold,
                       static_cast<int>(columns), static_cast<int>(rows));
  const int bits = Log2Floor(threads / g->tile_groups, kTeamBits);
  const int64_t lanes = lines.columns ? 1 : lines.group_lanes / g->fold;
  g->lane_bits = Log2Floor(lanes, bits);
  g->row_bits = Log2Ceil(rows, bits - g->lane_bits);
  g->sum_bits = std::min(Log2Floor(threads / g->part_lanes, kTeamBits),
                         Log2Ceil(rows, kTeamBits));
}

int64_t SharedBytes(const Work& work, const LinesGeometry& g) {
  return std::max(ConstantNumbers(work, g), TableNumbers(work, g)) * work.compute_bytes;
}

}  // namespace

int64_t ConstantNumbers(const Work& work, const LinesGeometry& g) {
  const int64_t lanes = int64_t{g.thread_columns.divisor()} * g.width;
  return (work.backward ? kLaneConstants : kLaneConstants - 2) * lanes;
}

int64_t TableNumbers(const Work& work, const LinesGeometry& g) {
  const int64_t each = work.backward ? 2 : kMomentsNumbers;
  const int64_t table = each * g.table.Size();
  // To join warps takes four numbers for each warp.
  return std::max(table, int64_t{kMomentsNumbers} * kMaxWarps);
}

LinesPlan PlanLines(const Work& work, const LinesWanted& wanted) {
  const NormProblem& problem = work.problem;
  const Lines lines(problem);
  int64_t width = 0, copies = 0;
  SetWidth(work, wanted, lines, &width, &copies);
  LinesPlan plan;
  LinesGeometry& g = plan.geometry;
  g.width = static_cast<int>(width);
  g.copies = static_cast<int>(copies);
  g.columns = lines.columns;
  g.positions = problem.per_position;
  g.outer = problem.n;
  g.rows = lines.rows / copies;
  g.line = lines.line * copies;
  g.groups = lines.groups;
  g.q = Divider(problem.q);
  g.sample = Divider(problem.n / problem.param_sets);
  g.params = problem.num_params() / problem.param_sets;
  g.samples = problem.param_sets;
  SetTiles(work, wanted, lines, width, copies, &g);
  g.copy_lanes = SmallDivider(copies > 1 ? lines.line : 1);
  g.group_lanes =
      SmallDivider(g.parts.divisor() > 1 ? g.part_lanes : lines.group_lanes);
  plan.threads = wanted.threads;
  for (;; plan.threads /= 2) {
    SetThreads(work, lines, wanted, plan.threads, &g);
    plan.shared_bytes = SharedBytes(work, g);
    if (plan.shared_bytes <= wanted.shared_bytes || plan.threads <= 2 * kWarp) break;
    // If there are fewer threads than columns, tiles must be narrower.
    if (CeilDiv(g.part_lanes, width) > plan.threads / 2) {
      LinesWanted fewer = wanted;
      fewer.threads = plan.threads / 2;
      return PlanLines(work, fewer);
    }
  }
  return plan;
}

}  // namespace cuda
}  // namespace fusednorm
