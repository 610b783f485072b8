// The `tile` scheme: how many blocks share a set, and how many threads a block has.
#include "cuda/plan/tile.h"

#include <algorithm>

#include "cuda/plan/lines.h"

namespace fusednorm {
namespace cuda {
namespace {

// A block with less does little but wait for the others. The number is not measured.
constexpr int64_t kLeastSlabBytes = 2 << 10;
// Bytes of x in a block. If it would have more, its tile becomes as narrow as whole
// lines of L2 allow.
constexpr int64_t kSetBytes = 16 << 10;

// One way to divide the sets among blocks and threads.
struct Shares {
  TileGeometry geometry;
  int threads = 0;
  int64_t blocks = 0, slab_bytes = 0, shared_bytes = 0;
};

// Lays out shared memory, in numbers of the compute type.
TileShared LayOut(const Work& work, const LinesGeometry& g) {
  TileShared shared;
  const auto after = [](int64_t offset, int64_t numbers) {
    return static_cast<int>(RoundUp(offset + numbers, 4));  // accesses of 16 bytes
  };
  const int lanes = static_cast<int>(g.tile_lanes);
  shared.table = after(0, ConstantNumbers(work, g));
  shared.lane_sums = after(shared.table, TableNumbers(work, g));
  shared.own = after(shared.lane_sums, work.backward ? 2 * lanes : 0);
  shared.joined = after(shared.own, kMomentsNumbers * g.tile_groups);
  shared.end = after(shared.joined, 2 * g.tile_groups);
  return shared;
}

// Returns false if a block's rows do not fit its threads' registers or its shared
// memory.
bool Share(const Work& work, int cluster, int threads, Shares* shares) {
  LinesWanted wanted;
  wanted.threads = threads;
  wanted.row_blocks = cluster;
  wanted.set_bytes = kSetBytes;
  wanted.shared_bytes = work.SharedBytesUnasked();
  const LinesPlan lines = PlanLines(work, wanted);
  if (lines.threads != threads) return false;
  const LinesGeometry& g = lines.geometry;
  TileGeometry& geometry = shares->geometry;
  geometry.lines = g;
  geometry.width = g.width;
  if ((g.width == 1 && !g.columns) || g.parts.divisor() > 1) return false;
  // With more sets, the kernel would have to divide numbers of more than 31 bits.
  if (g.tiles.divisor() > kMaxGrid) return false;
  geometry.tiles = SmallDivider(g.tiles.divisor());
  geometry.cluster_bits = Log2Floor(cluster, 31);
  const int64_t slab_rows = CeilDiv(g.rows, cluster);
  const int64_t vectors = CeilDiv(slab_rows, g.thread_rows.divisor());
  const auto fits = [&](int most) { return vectors <= most; };
  const auto* const end = g.columns ? kTileVectors + 1 : std::end(kTileVectors);
  const auto* const instance = std::find_if(kTileVectors, end, fits);
  if (instance == end) return false;
  geometry.vectors = *instance;
  geometry.slab_rows = static_cast<int>(slab_rows);  // rows of one block
  geometry.shared = LayOut(work, g);
  shares->threads = threads;
  shares->blocks = g.outer * g.tiles.divisor() * cluster;
  shares->slab_bytes = slab_rows * g.tile_lanes * work.element_bytes;
  shares->shared_bytes = geometry.shared.end * work.compute_bytes;
  return shares->shared_bytes <= wanted.shared_bytes;
}

void AddShares(const Work& work, const Shares& shares, std::vector<Plan>* plans) {
  const NormProblem& problem = work.problem;
  const LinesGeometry& g = shares.geometry.lines;
  Plan plan;
  plan.geometry = shares.geometry;
  AddLaunch(&plan, work.backward ? "TileBackward" : "TileForward", shares.blocks,
            shares.threads, shares.geometry.cluster(), shares.shared_bytes);
  if (work.params) {
    const int64_t of_outer = g.columns ? g.tiles.divisor() : shares.geometry.cluster();
    PlanParamSums(work, g.outer / problem.param_sets * of_outer,
                  problem.param_sets * (g.columns ? g.rows : g.line / g.copies), true,
                  &plan);
  }
  plans->push_back(plan);
}

}  // namespace

void AddTile(const Work& work, std::vector<Plan>* plans) {
  const NormProblem& problem = work.problem;
  // What the instances know at compile time.
  const bool rows = problem.p == 1 && problem.reduces_q;
  if (rows || !problem.centred || problem.has_residual || problem.has_mask ||
      problem.per_position || problem.data == DataType::kDouble) {
    return;
  }
  // First comes the plan with the fewest blocks for a set that still occupy all
  // multiprocessors; the others follow.
  std::vector<Shares> all;
  for (int cluster = 1; cluster <= std::min(kTileCluster, work.device.max_cluster);
       cluster *= 2) {
    for (int threads = 2 * kWarp; threads <= kTileThreads; threads *= 2) {
      Shares shares;
      if (!Share(work, cluster, threads, &shares)) continue;
      all.push_back(shares);
      break;
    }
  }
  const auto fills = [&](const Shares& shares) {
    return 4 * shares.blocks >= 3 * work.device.multiprocessors;  // nearly all
  };
  // Two blocks fit a multiprocessor, so that one computes while the other waits for
  // memory.
  const auto shares_multiprocessor = [&](const Shares& shares) {
    return fills(shares) && shares.threads <= kTileThreads / 2;
  };
  auto best = std::find_if(all.begin(), all.end(), shares_multiprocessor);
  if (best == all.end()) best = std::find_if(all.begin(), all.end(), fills);
  if (best == all.end()) {
    const auto small = [](const Shares& shares) {
      return shares.slab_bytes >= kLeastSlabBytes;
    };
    const auto last = std::find_if(all.rbegin(), all.rend(), small);
    best = last == all.rend() ? all.begin() : std::prev(last.base());
  }
  if (best != all.end()) std::rotate(all.begin(), best, std::next(best));
  for (const Shares& shares : all) AddShares(work, shares, plans);
}

}  // namespace cuda
}  // namespace fusednorm
