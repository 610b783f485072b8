// The `columns` scheme: backward of few long rows with one gamma for each element.
#include "cuda/plan/rows.h"

namespace fusednorm {
namespace cuda {

void AddColumns(const Work& work, std::vector<Plan>* plans) {
  const NormProblem& problem = work.problem;
  const int64_t multiprocessors = work.device.multiprocessors;
  const int64_t rows = problem.n * problem.g, length = problem.k * problem.q;
  ColumnsGeometry geometry;
  geometry.width = work.Width(length);
  if (!SumsColumns(work) || geometry.width == 1 || !HasPlainAffine(work)) return;
  const int64_t accesses = length / geometry.width;
  const int64_t blocks = CeilDiv(accesses, int64_t{kColumnsThreads});
  const int64_t shared = rows * kRowConstants * work.compute_bytes;
  // A block of columns for each multiprocessor at least: a guess.
  constexpr int64_t kSharedBytes = 48 << 10;  // that a kernel gets without asking
  if (blocks < multiprocessors || shared > kSharedBytes) return;

  // Each block of the second kernel adds up the pieces of all rows: 64 of 32 rows were
  // as fast as 32 on an H200, and fill the device with the first kernel.
  constexpr int64_t kMostPieces = 64;
  int64_t pieces =
      std::max<int64_t>(1, std::min({kMostPieces, CeilDiv(16 * multiprocessors, rows),
                                     CeilDiv(accesses, int64_t{kColumnsThreads})}));
  geometry.piece = CeilDiv(accesses, pieces);
  pieces = CeilDiv(accesses, geometry.piece);
  geometry.pieces = Divider(pieces);
  if (rows * pieces > kMaxGrid || blocks > kMaxGrid) return;

  Plan plan;
  plan.geometry = geometry;
  plan.partial_bytes = 2 * rows * pieces * work.compute_bytes;
  AddLaunch(&plan, "LongRowSums", rows * pieces, kColumnsThreads, 1,
            kWarpSums * work.compute_bytes);
  AddLaunch(&plan, "LongRowGradient", blocks, kColumnsThreads, 1, shared);
  plans->push_back(plan);
}

}  // namespace cuda
}  // namespace fusednorm
