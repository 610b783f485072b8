// The `columns` scheme: backward of rows with one gamma for each element that do not
// fit the registers of a block.
#include "cuda/plan/rows.h"

namespace fusednorm {
namespace cuda {
namespace {

// The fewest rows that a block takes. Each more row saves one addition for each element
// of dgamma and dbeta in the last stage. The number is a guess, not measured.
constexpr int64_t kLeastChunkRows = 32;
// Each block of the second kernel adds up the pieces of its rows. On an H200, 64 pieces
// of 32 rows were as fast as 32 pieces, and they fill the device in the first kernel.
constexpr int64_t kMostPieces = 64;

// The number of samples that have gamma and beta of their own, which differ between the
// elements of a row. 0: `columns` does not take the problem.
int64_t Samples(const NormProblem& problem) {
  if (problem.has_mask || problem.per_position) return 0;
  if (!problem.has_gamma && !problem.has_beta) return 1;
  if (problem.q > 1) return 0;
  if (problem.g == 1) return problem.param_sets;
  return problem.n == 1 ? problem.g : 0;
}

}  // namespace

void AddColumns(const Work& work, std::vector<Plan>* plans) {
  const NormProblem& problem = work.problem;
  const int64_t samples = Samples(problem);
  if (samples == 0) return;
  const int64_t multiprocessors = work.device.multiprocessors;
  const int64_t rows = problem.n * problem.g, length = problem.k * problem.q;
  ColumnsGeometry geometry;
  geometry.samples = samples;
  geometry.width = work.Width(length);
  geometry.general = geometry.width == 1 || !HasPlainAffine(work);
  const int64_t accesses = length / geometry.width;
  const int64_t column_blocks = CeilDiv(accesses, int64_t{kColumnsThreads});
  geometry.column_blocks = Divider(column_blocks);
  const int64_t bytes_of_row = kRowConstants * work.compute_bytes;
  geometry.sample_rows = rows / samples;
  const int64_t blocks = column_blocks * samples;
  const int64_t wanted =
      blocks >= multiprocessors ? 1 : CeilDiv(kColumnsBlocks * multiprocessors, blocks);
  geometry.chunk_rows =
      std::min({std::max(kLeastChunkRows, CeilDiv(geometry.sample_rows, wanted)),
                geometry.sample_rows, work.SharedBytesUnasked() / bytes_of_row});
  const int64_t chunks = CeilDiv(geometry.sample_rows, geometry.chunk_rows);
  geometry.chunks = Divider(chunks);

  int64_t pieces =
      std::max<int64_t>(1, std::min({kMostPieces, CeilDiv(16 * multiprocessors, rows),
                                     CeilDiv(accesses, int64_t{kColumnsThreads})}));
  geometry.piece = CeilDiv(accesses, pieces);
  pieces = CeilDiv(accesses, geometry.piece);
  geometry.pieces = Divider(pieces);
  geometry.join_bits = Log2Ceil(pieces, 5);  // a warp or less

  Plan plan;
  plan.geometry = geometry;
  plan.partial_bytes = 2 * rows * pieces * work.compute_bytes;
  AddLaunch(&plan, "LongRowSums", rows * pieces, kColumnsThreads, 1,
            kWarpSums * work.compute_bytes);
  AddLaunch(&plan, "LongRowGradient", chunks * blocks, kColumnsThreads, 1,
            geometry.chunk_rows * bytes_of_row);
  if (work.params) PlanParamSums(work, chunks, problem.num_params(), true, &plan);
  plans->push_back(plan);
}

}  // namespace cuda
}  // namespace fusednorm
