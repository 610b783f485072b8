// The `split_rows` scheme: rows that fit no block, and rows with a mask.
#include "cuda/plan/rows.h"

namespace fusednorm {
namespace cuda {
namespace {

int64_t Rows(const NormProblem& problem) { return problem.n * problem.g; }
int64_t Length(const NormProblem& problem) { return problem.k * problem.q; }

}  // namespace

void AddSplitRowsForward(const Work& work, std::vector<Plan>* plans) {
  constexpr int kThreads = kBlockThreads;
  const int64_t rows = Rows(work.problem), length = Length(work.problem);
  SplitRowsGeometry geometry;
  geometry.width = work.Width(length);
  // Four blocks a multiprocessor, each with a few rounds of accesses; slices of 256 KB
  // at most, so that the second kernel finds some of them in L2.
  const int64_t most = CeilDiv(length, int64_t{4} * kThreads * geometry.width);
  const int64_t wanted =
      std::max(CeilDiv(4 * int64_t{work.device.multiprocessors}, rows),
               CeilDiv(length * work.element_bytes, int64_t{256} << 10));
  geometry.slice = RoundUp(
      CeilDiv(length, std::max<int64_t>(1, std::min(most, wanted))), geometry.width);
  geometry.slices = CeilDiv(length, geometry.slice);
  Plan plan;
  plan.geometry = geometry;
  plan.partial_bytes = kMomentsNumbers * rows * geometry.slices * work.compute_bytes;
  const int64_t shared = BlockTeamBytes(work.compute_bytes);
  AddLaunch(&plan, "SplitRowsMoments", rows * geometry.slices, kThreads, 1, shared);
  AddLaunch(&plan, "SplitRowsNormalize", rows * geometry.slices, kThreads, 1, shared);
  plans->push_back(plan);
}

void AddSplitRowsBackward(const Work& work, std::vector<Plan>* plans) {
  const NormProblem& problem = work.problem;
  const int64_t rows = Rows(problem), length = Length(problem);
  const int64_t wanted = 2 * int64_t{work.device.multiprocessors};
  // Gradients of gamma and beta that are no columns are for `runs`.
  const bool columns = SumsColumns(work);
  if (work.params && !columns) return;
  SplitRowsGeometry geometry;
  geometry.width = work.Width(length);
  geometry.vectors = ColumnVectors(work.element_bytes, geometry.width);
  int threads = ColumnThreads(work.element_bytes, geometry.width);
  const auto slice = [&] {
    return int64_t{threads} * geometry.vectors * geometry.width;
  };
  // Whole warps, two of them or more.
  const auto halves = [&] {
    return threads >= 4 * kWarp && threads % (2 * kWarp) == 0;
  };
  while (halves() && rows * CeilDiv(length, slice()) < wanted) threads /= 2;
  geometry.slice = slice();
  geometry.slices = CeilDiv(length, geometry.slice);
  geometry.slots = SharesOfRows(work, CeilDiv(wanted, geometry.slices));
  Plan plan;
  plan.geometry = geometry;
  plan.partial_bytes = 2 * rows * geometry.slices * work.compute_bytes;
  const int64_t shared = BlockTeamBytes(work.compute_bytes);
  AddLaunch(&plan, "SplitRowsSums",
            problem.param_sets * geometry.slots * geometry.slices, threads, 1, shared);
  AddCountMask(work, &plan);
  AddLaunch(&plan, "SplitRowsGradient", rows * geometry.slices, threads, 1,
            std::max(shared, threads * work.compute_bytes));
  if (columns) {
    PlanParamSums(work, geometry.slots / problem.g, problem.num_params(), false, &plan);
  }
  plans->push_back(plan);
}

}  // namespace cuda
}  // namespace fusednorm
