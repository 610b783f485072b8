#include "cuda/plan_rows.h"

#include "cuda/shared_layout.h"

namespace fusednorm {
namespace cuda {
namespace {

constexpr int kWarpRowsThreads = 256;
// With as many columns in registers as there may be: up to 170 registers a thread then
// leave two blocks a multiprocessor, where 256 threads leave one.
constexpr int kWarpColumnsThreads = 192;

// A device is well enough filled by blocks on this share of its multiprocessors to
// prefer one read of x by few blocks to two by many.
constexpr double kFilled = 0.6;

int64_t Rows(const NormProblem& problem) { return problem.n * problem.g; }
int64_t Length(const NormProblem& problem) { return problem.k * problem.q; }

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

void PlanSplitRowsForward(const Work& work, Plan* plan) {
  constexpr int kThreads = kBlockThreads;
  const int64_t rows = Rows(work.problem), length = Length(work.problem);
  // Four blocks a multiprocessor, each with a few rounds of accesses; slices of 256 KB
  // at most, so that the second kernel finds some of them in L2.
  const int64_t most = CeilDiv(length, int64_t{4} * kThreads * plan->width);
  const int64_t wanted =
      std::max(CeilDiv(4 * int64_t{work.device.multiprocessors}, rows),
               CeilDiv(length * work.element_bytes, int64_t{256} << 10));
  plan->variant = Variant::kSplitRows;
  plan->slice = RoundUp(CeilDiv(length, std::max<int64_t>(1, std::min(most, wanted))),
                        plan->width);
  plan->slices = CeilDiv(length, plan->slice);
  plan->partial_bytes = kMomentsNumbers * rows * plan->slices * work.compute_bytes;
  const int64_t shared = BlockTeamBytes(work.compute_bytes);
  AddLaunch(plan, "SplitRowsMoments", rows * plan->slices, kThreads, 1, shared);
  AddLaunch(plan, "SplitRowsNormalize", rows * plan->slices, kThreads, 1, shared);
}

// How teams share rows in backward. A team keeps to rows of one group where it sums
// columns: there is a multiple of G of them.
void ShareRows(const Work& work, int64_t teams, bool columns, Plan* plan) {
  const NormProblem& problem = work.problem;
  plan->slots = std::max<int64_t>(1, std::min(Rows(problem), teams));
  if (columns && problem.g > 1) {
    plan->slots =
        problem.g * std::max<int64_t>(1, std::min(problem.n, teams / problem.g));
  }
}

void FinishParams(const Work& work, int64_t sets, bool own_kernel, Plan* plan) {
  PlanParamSums(work, sets, work.problem.num_params(), own_kernel, plan);
}

// Rows whose gamma and beta change from run to run: channels_first groups.
void PlanRuns(const Work& work, Plan* plan) {
  const NormProblem& problem = work.problem;
  const int64_t rows = Rows(problem);
  plan->vectors = 0;
  CutRuns(work, plan);
  const int64_t units = problem.k * plan->pieces;
  const int threads = WholeWarps(units * plan->team, kRunsThreads);
  const int64_t teams = threads / plan->team;
  const int64_t of_unit = CeilDiv(plan->piece, int64_t{plan->team} * plan->width);
  const int64_t slot_bytes = 2 * work.HeldBytes(plan->width);

  // In accesses of the whole block, since a round takes all its threads.
  const int cluster =
      ClusterFor(work, rows, CeilDiv(units, teams) * teams * of_unit * plan->team,
                 slot_bytes, threads);
  const int64_t sets = problem.n * plan->pieces;
  if (cluster > 0 && !problem.has_mask) {
    const int64_t rounds = CeilDiv(CeilDiv(units, cluster), teams);
    const int64_t shared =
        BlockTeamBytes(work.compute_bytes) + rounds * of_unit * threads * slot_bytes;
    if (shared <= work.SharedBytesOfBlock()) {
      plan->variant = Variant::kRuns;
      plan->slices = cluster;
      AddLaunch(plan, "RunsBackward", rows * cluster, threads, cluster, shared);
      FinishParams(work, sets, true, plan);
      return;
    }
  }
  plan->variant = Variant::kSplitRuns;
  plan->slices = std::max<int64_t>(
      1, std::min(CeilDiv(units, teams),
                  CeilDiv(4 * int64_t{work.device.multiprocessors}, rows)));
  plan->slice = RoundUp(CeilDiv(Length(problem), plan->slices), plan->width);
  plan->partial_bytes = 2 * rows * plan->slices * work.compute_bytes;
  const int64_t team_bytes = BlockTeamBytes(work.compute_bytes);
  AddLaunch(plan, "RunsSums", rows * plan->slices, threads, 1, team_bytes);
  AddCountMask(work, plan);
  AddLaunch(plan, "SplitRowsGradient", rows * plan->slices, kBlockThreads, 1,
            std::max(team_bytes, kBlockThreads * work.compute_bytes));
  FinishParams(work, sets, false, plan);
}

void PlanSplitRowsBackward(const Work& work, bool columns, Plan* plan) {
  const NormProblem& problem = work.problem;
  const int64_t rows = Rows(problem), length = Length(problem);
  const int64_t wanted = 2 * int64_t{work.device.multiprocessors};
  plan->variant = Variant::kSplitRows;
  plan->vectors = ColumnVectors(work.element_bytes, plan->width);
  int threads = ColumnThreads(work.element_bytes, plan->width);
  const auto slice = [&] { return int64_t{threads} * plan->vectors * plan->width; };
  // Whole warps, two of them or more.
  const auto halves = [&] {
    return threads >= 4 * kWarp && threads % (2 * kWarp) == 0;
  };
  while (halves() && rows * CeilDiv(length, slice()) < wanted) threads /= 2;
  plan->slice = slice();
  plan->slices = CeilDiv(length, plan->slice);
  ShareRows(work, CeilDiv(wanted, plan->slices), columns, plan);
  plan->partial_bytes = 2 * rows * plan->slices * work.compute_bytes;
  const int64_t shared = BlockTeamBytes(work.compute_bytes);
  AddLaunch(plan, "SplitRowsSums", plan->slots * plan->slices, threads, 1, shared);
  AddCountMask(work, plan);
  AddLaunch(plan, "SplitRowsGradient", rows * plan->slices, threads, 1,
            std::max(shared, threads * work.compute_bytes));
  if (columns) FinishParams(work, plan->slots / problem.g, false, plan);
}

}  // namespace

void CutRuns(const Work& work, Plan* plan) {
  constexpr int kAccessesOfPiece = 8;  // of each lane of a warp
  const int64_t q = work.problem.q;
  plan->width = work.Width(q);
  const int64_t accesses = CeilDiv(q, plan->width);
  plan->team = static_cast<int>(std::min<int64_t>(kWarp, PowerOfTwo(accesses)));
  plan->pieces = CeilDiv(accesses, int64_t{kWarp} * kAccessesOfPiece);
  plan->piece = CeilDiv(accesses, plan->pieces) * plan->width;
  plan->pieces = CeilDiv(q, plan->piece);
}

void PlanRowsForward(const Work& work, Plan* plan) {
  const int64_t rows = Rows(work.problem), length = Length(work.problem);
  const int64_t multiprocessors = work.device.multiprocessors;
  plan->width = work.Width(length);
  if (work.problem.has_mask) return PlanSplitRowsForward(work, plan);
  const bool wide = plan->width > 1;
  const int64_t accesses = length / plan->width;

  if (accesses <= kWarp * (wide ? kWarpVectors : kManyScalars)) {
    plan->variant = Variant::kWarpRows;
    if (wide) {
      plan->vectors = static_cast<int>(PowerOfTwo(CeilDiv(accesses, kWarp)));
    } else {
      plan->vectors = accesses <= kWarp * kFewScalars ? kFewScalars : kManyScalars;
    }
    plan->team = static_cast<int>(PowerOfTwo(CeilDiv(accesses, plan->vectors)));
    const int64_t teams = kWarpRowsThreads / plan->team;
    AddLaunch(plan, "WarpRowsForward",
              std::min(CeilDiv(rows, teams), kRounds * multiprocessors),
              kWarpRowsThreads, 1, 0);
    return;
  }

  plan->vectors = wide ? kBlockVectors : kManyScalars;
  const int64_t team_bytes = BlockTeamBytes(work.compute_bytes);
  if (accesses <= kBlockThreads * plan->vectors) {
    plan->variant = Variant::kBlockRows;
    plan->team = WholeWarps(CeilDiv(accesses, plan->vectors), kBlockThreads);
    AddLaunch(plan, "BlockRowsForward", std::min(rows, kRounds * multiprocessors),
              plan->team, 1, team_bytes);
    return;
  }

  plan->vectors = 0;
  const int threads = kBlockThreads;
  const int64_t bytes = work.HeldBytes(plan->width);
  const int cluster = ClusterFor(work, rows, accesses, bytes, threads);
  if (cluster > 0) {
    plan->variant = Variant::kSharedRows;
    plan->team = threads * cluster;
    AddLaunch(plan, "SharedRowsForward",
              cluster * std::min(rows, kRounds * multiprocessors), threads, cluster,
              team_bytes + CeilDiv(accesses, plan->team) * threads * bytes);
    return;
  }
  PlanSplitRowsForward(work, plan);
}

void PlanRowsBackward(const Work& work, Plan* plan) {
  const NormProblem& problem = work.problem;
  const int64_t rows = Rows(problem), length = Length(problem);
  const int64_t multiprocessors = work.device.multiprocessors;
  const bool along = problem.q == 1;
  // One gamma a row, whose gradient is a sum that is needed anyway.
  const bool constant = !along && problem.k == 1;
  const bool columns = along && work.params;
  if (work.params && !along && (!constant || problem.has_mask)) {
    return PlanRuns(work, plan);
  }

  plan->width = work.Width(length);
  if (problem.has_mask) return PlanSplitRowsBackward(work, columns, plan);
  const bool wide = plan->width > 1;
  const int64_t accesses = length / plan->width;
  const int column_vectors = ColumnVectors(work.element_bytes, plan->width);
  const int max_threads = ColumnThreads(work.element_bytes, plan->width);
  const int64_t team_bytes = BlockTeamBytes(work.compute_bytes);
  const auto finish = [&](int64_t column_sets) {
    if (work.params) FinishParams(work, along ? column_sets : problem.n, true, plan);
  };

  if (accesses <= kWarp * column_vectors) {
    plan->variant = Variant::kWarpRows;
    const int few = wide ? 1 : kFewScalars;
    plan->vectors = accesses <= kWarp * few ? few : column_vectors;
    plan->team = static_cast<int>(PowerOfTwo(CeilDiv(accesses, plan->vectors)));
    const int threads = plan->vectors == few ? kWarpRowsThreads : kWarpColumnsThreads;
    const int64_t teams = threads / plan->team;
    const int64_t per_multiprocessor = !columns               ? kRounds
                                       : plan->vectors == few ? 4
                                                              : 2;
    const int64_t blocks =
        std::min(CeilDiv(rows, teams), per_multiprocessor * multiprocessors);
    plan->slots = blocks * teams;
    if (columns && problem.g > 1) ShareRows(work, plan->slots, true, plan);
    // The columns of a block are added up in it, if all are of the same group.
    const bool joined = columns && problem.g == 1;
    AddLaunch(plan, "WarpRowsBackward", CeilDiv(plan->slots, teams), threads, 1,
              joined ? 2 * length * work.compute_bytes : 0);
    finish(joined ? blocks : plan->slots / problem.g);
    return;
  }

  const int64_t needed = CeilDiv(accesses, int64_t{max_threads} * column_vectors);
  const int64_t cluster = PowerOfTwo(needed);
  if (cluster <= work.device.max_cluster &&
      (cluster == 1 || rows * cluster >= kFilled * multiprocessors)) {
    plan->variant = Variant::kBlockRows;
    plan->vectors = column_vectors;
    const int threads =
        WholeWarps(CeilDiv(accesses, cluster * column_vectors), max_threads);
    plan->team = static_cast<int>(threads * cluster);
    const int64_t per_multiprocessor =
        columns ? std::max(1, max_threads / threads) : kRounds;
    ShareRows(work, per_multiprocessor * multiprocessors / cluster, columns, plan);
    AddLaunch(plan, "BlockRowsBackward", plan->slots * cluster, threads,
              static_cast<int>(cluster), team_bytes);
    finish(plan->slots / problem.g);
    return;
  }

  if (constant && work.params) return PlanRuns(work, plan);
  const int many = SharedColumnVectors(work.element_bytes, plan->width);
  const int64_t held =
      2 * int64_t{many} * kSharedColumnThreads * work.HeldBytes(plan->width);
  if (accesses <= int64_t{many} * kSharedColumnThreads &&
      team_bytes + held <= work.SharedBytesOfBlock() &&
      rows >= kFilled * multiprocessors) {
    plan->variant = Variant::kSharedRows;
    plan->vectors = many;
    plan->team = kSharedColumnThreads;
    ShareRows(work, columns ? multiprocessors : kRounds * multiprocessors, columns,
              plan);
    AddLaunch(plan, "SharedRowsBackward", plan->slots, kSharedColumnThreads, 1,
              team_bytes + held);
    finish(plan->slots / problem.g);
    return;
  }
  PlanSplitRowsBackward(work, columns, plan);
}

}  // namespace cuda
}  // namespace fusednorm
