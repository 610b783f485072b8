// How a problem runs on a device: which kernels, how many blocks and threads, how much
// shared memory and workspace. A pure function of the problem and the device, and the
// only place with heuristics: launches obey it. `fusednorm explain` prints it.
#pragma once

#include <cstdint>

#include "core/problem.h"
#include "cuda/devices.h"

namespace fusednorm {
namespace cuda {

enum class Variant {
  kEmpty,       // no elements: nothing is launched but fills of the small outputs
  kWarpRows,    // a row in the registers of a warp or a part of one
  kBlockRows,   // a row in the registers of a block, or of a cluster of blocks
  kSharedRows,  // a row in the shared memory of a block, or of a cluster
  kSplitRows,   // a row cut over the grid: two kernels
  kRuns,        // backward of channels_first groups, resident in shared memory
  kSplitRuns,   // the same cut over the grid
  kTile,        // groups interleaved over P, or columns: a slab in shared memory
  kSplitTile,   // the same cut over the grid
};
const char* Name(Variant variant);

constexpr int64_t kMaxGrid = (int64_t{1} << 31) - 1;

// One kernel launch; grids have one dimension.
struct Launch {
  const char* kernel = nullptr;
  int64_t blocks = 0;
  int threads = 0;
  int cluster = 1;  // consecutive blocks that share
  int64_t shared_bytes = 0;
};

struct Plan {
  Variant variant = Variant::kEmpty;
  int num_launches = 0;
  int64_t repeats = 1;  // the launches, and what they move: once a set of parameters
  Launch launches[3];
  // Device memory, 256-byte aligned, any content: the groups' partial sums, then those
  // of dgamma and those of dbeta, then the counts of a mask.
  int64_t workspace_bytes = 0;
  int64_t partial_bytes = 0;
  int64_t param_bytes = 0;  // of each of the two, or of d_gamma
  int64_t count_bytes = 0;

  int64_t least_bytes = 0;     // each tensor once
  int64_t bytes_moved = 0;     // device memory traffic of these launches, caches aside
  double predicted_share = 0;  // of the bandwidth of a copy; an estimate

  // For the kernels. width: elements of an access, 16 bytes of them or 1.
  int width = 1;
  int vectors = 0;      // accesses that a thread keeps in registers; 0: none are kept
  bool stream = false;  // outputs pass L2 by
  int team = 1;         // threads of a row (rows), lanes of a run (runs)
  int64_t sets = 0;     // of dgamma/dbeta partial sums; 0: they are the gradients
  int64_t slices = 1;   // of a row, of its runs, or slabs of a tile's rows
  int64_t slice = 0;    // elements of a row's slice
  int64_t lanes = 0;    // of a tile
  int64_t lane_blocks = 1;  // tiles that a line is cut into
  int64_t parts = 1;        // tiles that a group wider than one is cut into
  int64_t pieces = 1;       // of a run
  int64_t piece = 0;        // elements of one
  int64_t slots = 1;        // teams or blocks that share rows or the batch
  int64_t mask_pieces = 1;  // that a sample of a mask is counted in
};

// The data pointers and parameters allow 16-byte accesses.
bool Aligned(const ForwardBuffers& buffers);
bool Aligned(const BackwardBuffers& buffers);
bool Aligned(const SecondOrderBuffers& buffers);

Plan PlanForward(const NormProblem& problem, const Device& device, bool aligned);
// `params`: dgamma or dbeta is wanted.
Plan PlanBackward(const NormProblem& problem, const Device& device, bool aligned,
                  bool params);
// `params`: d_gamma is wanted.
Plan PlanSecondOrder(const NormProblem& problem, const Device& device, bool aligned,
                     bool params);

}  // namespace cuda
}  // namespace fusednorm
