// The `runs` scheme: gradients of channels_first groups.
#include "cuda/plan/rows.h"

namespace fusednorm {
namespace cuda {
namespace {

// A device is well enough filled by blocks on this share of its multiprocessors to
// prefer one read of x by few blocks to two by many. A guess.
constexpr double kFilled = 0.6;

// The blocks of a cluster that hold `accesses` of `bytes` each in shared memory: the
// fewest with two blocks on a multiprocessor, else the fewest that hold them; more
// where rows are too few to fill the device. 0: they do not fit, or too few blocks
// would work.
int ClusterFor(const Work& work, int64_t rows, int64_t accesses, int64_t bytes,
               int threads) {
  const auto shared = [&](int cluster) {
    return BlockTeamBytes(work.compute_bytes) +
           CeilDiv(accesses, int64_t{cluster} * threads) * threads * bytes;
  };
  int best = 0;
  for (int cluster = 1; cluster <= work.device.max_cluster; cluster *= 2) {
    if (shared(cluster) > work.SharedBytesOfBlock()) continue;
    if (best == 0) best = cluster;
    if (shared(cluster) <= work.SharedBytesOfHalf()) {
      best = cluster;
      break;
    }
  }
  if (best == 0) return 0;
  while (best * 2 <= work.device.max_cluster &&
         rows * best < work.device.multiprocessors &&
         accesses >= int64_t{8} * best * threads) {
    best *= 2;
  }
  return rows * best < kFilled * work.device.multiprocessors ? 0 : best;
}

}  // namespace

void CutRuns(const Work& work, RunsGeometry* geometry) {
  constexpr int kAccessesOfPiece = 8;  // of each lane of a warp
  const int64_t q = work.problem.q;
  geometry->width = work.Width(q);
  const int64_t accesses = CeilDiv(q, geometry->width);
  geometry->team = static_cast<int>(std::min<int64_t>(kWarp, PowerOfTwo(accesses)));
  geometry->pieces = CeilDiv(accesses, int64_t{kWarp} * kAccessesOfPiece);
  geometry->piece = CeilDiv(accesses, geometry->pieces) * geometry->width;
  geometry->pieces = CeilDiv(q, geometry->piece);
}

void AddRuns(const Work& work, std::vector<Plan>* plans) {
  const NormProblem& problem = work.problem;
  if (!work.params || problem.q == 1) return;
  const int64_t rows = problem.n * problem.g;
  RunsGeometry geometry;
  CutRuns(work, &geometry);
  const int64_t units = problem.k * geometry.pieces;
  const int threads = WholeWarps(units * geometry.team, kRunsThreads);
  const int64_t teams = threads / geometry.team;
  const int64_t of_unit =
      CeilDiv(geometry.piece, int64_t{geometry.team} * geometry.width);
  const int64_t slot_bytes = 2 * work.HeldBytes(geometry.width);

  // In accesses of the whole block, since a round takes all its threads.
  const int cluster =
      ClusterFor(work, rows, CeilDiv(units, teams) * teams * of_unit * geometry.team,
                 slot_bytes, threads);
  const int64_t sets = problem.n * geometry.pieces;
  if (cluster > 0 && !problem.has_mask) {
    const int64_t rounds = CeilDiv(CeilDiv(units, cluster), teams);
    const int64_t shared =
        BlockTeamBytes(work.compute_bytes) + rounds * of_unit * threads * slot_bytes;
    if (shared <= work.SharedBytesOfBlock()) {
      geometry.resident = true;
      geometry.slices = cluster;
      Plan plan;
      plan.geometry = geometry;
      AddLaunch(&plan, "RunsBackward", rows * cluster, threads, cluster, shared);
      PlanParamSums(work, sets, problem.num_params(), true, &plan);
      plans->push_back(plan);
    }
  }
  geometry.resident = false;
  geometry.slices = std::max<int64_t>(
      1, std::min(CeilDiv(units, teams),
                  CeilDiv(4 * int64_t{work.device.multiprocessors}, rows)));
  geometry.slice =
      RoundUp(CeilDiv(problem.k * problem.q, geometry.slices), geometry.width);
  Plan plan;
  plan.geometry = geometry;
  plan.partial_bytes = 2 * rows * geometry.slices * work.compute_bytes;
  const int64_t team_bytes = BlockTeamBytes(work.compute_bytes);
  AddLaunch(&plan, "RunsBackward", rows * geometry.slices, threads, 1, team_bytes);
  AddCountMask(work, &plan);
  AddLaunch(&plan, "SplitRowsGradient", rows * geometry.slices, kBlockThreads, 1,
            std::max(team_bytes, kBlockThreads * work.compute_bytes));
  PlanParamSums(work, sets, problem.num_params(), false, &plan);
  plans->push_back(plan);
}

}  // namespace cuda
}  // namespace fusednorm
