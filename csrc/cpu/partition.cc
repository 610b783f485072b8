#include "cpu/partition.h"

#include <unistd.h>

#include <algorithm>

namespace fusednorm {
namespace cpu {
namespace {

// So many tasks are balanced for any number of threads met in practice, and few enough
// to be combined at no cost.
constexpr int64_t kWantedTasks = 64;
// A smaller task is not worth a thread; a smaller slice costs more than its elements.
constexpr int64_t kMinTaskElements = 16384;
constexpr int64_t kMinSliceElements = 65536;
// Shorter contiguous chunks are cheaper across lanes. The first limit is for groups
// that are one chunk, where a row costs more than its elements. The second is for
// groups of several chunks, which are too far apart to be fetched ahead.
constexpr int64_t kMinRowElements = 16;
constexpr int64_t kMinChunkElements = 513;
// The bytes that a wave of cut units reads: a part of the last cache of common servers.
constexpr int64_t kWaveBytes = int64_t{8} << 20;
// To add up a set of partial sums costs about as much as to sum so many rows.
constexpr int64_t kMinRowsPerSet = 16;
// To call a function for a very short line would cost as much as its work. Such lines
// are folded into rows of about so many lanes.
constexpr int64_t kFoldedLanes = 256;
// The most bytes of the partial sums of dgamma and dbeta.
constexpr int64_t kMaxSetBytes = int64_t{64} << 20;

int64_t CeilDiv(int64_t a, int64_t b) { return (a + b - 1) / b; }

bool IsOfPositions(const NormProblem& problem) {
  return problem.has_mask || problem.per_position;
}

// Whether kTiles takes the problem: short rows that share their parameters. A unit is a
// tile.
bool FitsTiles(const NormProblem& problem) {
  if (IsOfPositions(problem)) return false;
  return problem.reduces_q && problem.p == 1 && problem.g == 1 && problem.q == 1 &&
         problem.k <= kMaxTileColumns;
}

Partition PartitionTiles(const NormProblem& problem) {
  constexpr int64_t kVectorBytes = 64;
  Partition part;
  part.walk = Walk::kTiles;
  part.max_groups =
      kVectorBytes / static_cast<int64_t>(SizeOf(ComputeType(problem.data)));
  part.outer = CeilDiv(problem.n, part.max_groups);
  part.unit_elements = part.max_groups * problem.k;
  return part;
}

// The groups of a block: at most `most` of a line's groups. Blocks are of equal size if
// that does not make them too small.
int64_t GroupsOfBlock(int64_t line_groups, int64_t most) {
  most = std::min(most, line_groups);
  for (int64_t groups = most; 2 * groups >= most; --groups) {
    if (line_groups % groups == 0) return groups;
  }
  return most;
}

// The number of short lines of a row, if possible so that a row is whole vectors.
int64_t LinesFolded(int64_t lines, int64_t line) {
  constexpr int64_t kVector = 16;
  const int64_t most = std::clamp<int64_t>(kFoldedLanes / line, 1, lines);
  for (int64_t fold = most; 2 * fold >= most; --fold) {
    if (fold * line % kVector == 0) return fold;
  }
  return most;
}

// Whether vectors run along the groups. To go down the rows instead, a mask must hide
// whole rows, and the same rows of all groups of a unit.
bool FitsRows(const NormProblem& problem) {
  if (!problem.reduces_q) return false;
  if (problem.has_mask && (problem.p == 1 || problem.mask_q > 1)) return true;
  return problem.k * problem.q >=
         (problem.p == 1 ? kMinRowElements : kMinChunkElements);
}

Partition PartitionUnits(const NormProblem& problem, bool has_tiles = true) {
  if (has_tiles && FitsTiles(problem)) return PartitionTiles(problem);
  Partition part;
  part.of_positions = IsOfPositions(problem);
  const int64_t chunk = problem.k * problem.q;
  if (FitsRows(problem)) {
    part.walk = Walk::kRows;
    part.outer = problem.n;
    part.inner = problem.g;
    part.unit_elements = problem.p * chunk;
    return part;
  }
  part.walk = Walk::kLanes;
  if (problem.reduces_q) {
    // Short groups that follow each other through the whole tensor are seen as one
    // line.
    const bool one_line = problem.p == 1;
    const int64_t line_groups = one_line ? problem.n * problem.g : problem.g;
    part.line = line_groups * chunk;
    const int64_t most = one_line ? kFoldedLanes : kMaxLanes;
    const int64_t groups = GroupsOfBlock(line_groups, most / chunk);
    part.lanes = groups * chunk;
    part.max_groups = groups;
    part.lane_blocks = CeilDiv(line_groups, groups);
    part.rows = problem.p;
    part.stride = part.line;
    part.outer = one_line ? part.lane_blocks : problem.n;
    part.inner = one_line ? 1 : part.lane_blocks;
    if (part.lane_blocks == 1 && !problem.has_mask) {
      const int64_t fold = LinesFolded(problem.p, part.line);
      part.lanes *= fold;
      part.stride *= fold;
      part.rows = CeilDiv(problem.p, fold);
    }
  } else {
    part.line = problem.q;
    part.lanes = std::min(problem.q, kMaxLanes);
    part.max_groups = part.lanes;
    part.lane_blocks = CeilDiv(problem.q, part.lanes);
    part.rows = problem.k;
    part.stride = part.line;
    part.outer = problem.n * part.lane_blocks;
    part.inner = 1;
  }
  part.unit_elements = part.rows * part.lanes;
  return part;
}

// Results of at least so many bytes are written past the caches. They would not fit the
// last cache, and the next reader would not find them there. The results themselves do
// not depend on it.
int64_t StreamedBytes() {
  static const int64_t bytes = [] {
    const int64_t cache = sysconf(_SC_LEVEL3_CACHE_SIZE);
    return cache > 0 ? cache : int64_t{32} << 20;
  }();
  return bytes;
}

int64_t DataBytes(const NormProblem& problem) {
  return problem.num_elements() * static_cast<int64_t>(SizeOf(problem.data));
}

bool IsTranscendental(Activation activation) {
  bool is_transcendental = false;
  VisitActivation(activation, [&](auto act) {
    is_transcendental = decltype(act)::kIsTranscendental;
  });
  return is_transcendental;
}

// The number of units of a wave, if it reads `tensors` tensors.
int64_t UnitsPerWave(const NormProblem& problem, const Partition& part,
                     int64_t tensors) {
  const int64_t unit_bytes = DataBytes(problem) / part.units() * tensors;
  return std::clamp<int64_t>(kWaveBytes / std::max<int64_t>(1, unit_bytes), 1,
                             part.units());
}

// The most slices into which a unit can be cut.
int64_t MaxSlices(const Partition& part) {
  const int64_t by_size = part.unit_elements / kMinSliceElements;
  return part.walk == Walk::kLanes ? std::min(by_size, part.rows) : by_size;
}

// The bytes of parameters that are copied to the compute type. Parameters of each
// position are not copied, since they are as large as x.
int64_t ParamBytes(const NormProblem& problem, int64_t params) {
  const DataType compute = ComputeType(problem.data);
  if (problem.per_position) return 0;
  if (problem.param == compute && !problem.zero_centered) return 0;
  return params * problem.num_params() * static_cast<int64_t>(SizeOf(compute));
}

// What the plan of a pass that computes gradients depends on.
struct GradientPass {
  bool needs_sets;        // gradients of parameters are sums
  int64_t of_param;       // number of gradients of each parameter
  int64_t params;         // inputs like gamma
  int64_t sums;           // sums of a group
  int64_t contributions;  // numbers that a group contributes to its elements
  int64_t tensors;        // tensors that are read twice, wave by wave; 0: no waves
  bool has_tiles;
};

Partition PartitionGradients(const NormProblem& problem, const GradientPass& pass) {
  Partition part = PartitionUnits(problem, pass.has_tiles);
  const int64_t set_bytes = SetBytes(problem, pass.of_param);
  const int64_t max_sets =
      pass.needs_sets
          ? std::max<int64_t>(1, kMaxSetBytes / std::max<int64_t>(1, set_bytes))
          : part.outer;
  // How often a unit uses each of its parameters.
  const int64_t rows_of_unit =
      std::max<int64_t>(1, part.unit_elements * part.inner / problem.num_params());
  const int64_t worth =
      std::max<int64_t>(1, part.outer * rows_of_unit / kMinRowsPerSet);
  part.blocks =
      std::min({part.outer, max_sets, worth, CeilDiv(kWantedTasks, part.inner)});
  if (!pass.needs_sets) part.blocks = part.outer;

  if (part.walk != Walk::kTiles && part.blocks * part.inner < kWantedTasks / 2) {
    const int64_t wave = UnitsPerWave(problem, part, pass.tensors);
    const int64_t wanted = std::min(MaxSlices(part), CeilDiv(kWantedTasks, wave));
    if (!problem.per_position &&
        (!problem.reduces_q || (problem.p == 1 && problem.q == 1))) {
      // The elements of a column, or of a plain row, have parameters of their own in
      // each slice.
      const int64_t slices =
          std::min(MaxSlices(part), CeilDiv(kWantedTasks, part.inner));
      if (slices > part.blocks) {
        part.slices = slices;
        part.slices_own_params = true;
        part.wave = part.units();
      }
    } else if (wanted > 1 && (!pass.needs_sets || part.outer * wanted <= max_sets)) {
      part.slices = wanted;
      part.wave = wave;
    }
  }
  part.sets = !pass.needs_sets         ? 0
              : part.slices_own_params ? 1
              : part.slices > 1        ? part.outer * part.slices
                                       : part.blocks;
  part.workspace_bytes = part.sets * set_bytes + ParamBytes(problem, pass.params);
  if (part.slices > 1) {
    // Each contribution takes at most the bytes of a double.
    part.workspace_bytes += part.wave * part.max_groups *
                            (pass.sums * part.slices + pass.contributions) *
                            int64_t{sizeof(double)};
  }
  return part;
}

}  // namespace

Partition PartitionForward(const NormProblem& problem) {
  Partition part = PartitionUnits(problem);
  if (part.walk != Walk::kTiles && part.units() < kWantedTasks / 2) {
    part.wave = UnitsPerWave(problem, part, 1);
    part.slices = std::max<int64_t>(
        1, std::min(MaxSlices(part), CeilDiv(kWantedTasks, part.wave)));
  }
  part.streams = DataBytes(problem) >= StreamedBytes();
  part.blocks = std::min(
      part.units(),
      std::max(kWantedTasks, part.units() * part.unit_elements / kMinTaskElements));
  if (part.slices > 1) {
    constexpr int64_t kMoments = 3;
    part.workspace_bytes =
        kMoments * part.wave * part.slices * part.max_groups * int64_t{sizeof(double)};
  }
  part.workspace_bytes += ParamBytes(problem, 2);
  return part;
}

Partition PartitionBackward(const NormProblem& problem) {
  // Gradients of parameters of each position are not sums.
  const bool needs_sets =
      (problem.has_gamma || problem.has_beta) && !problem.per_position;
  Partition part = PartitionGradients(problem, {needs_sets, 2, 2, 2, 3, 2, true});
  // Where it costs more to compute dz again than to write it to the cache.
  if (IsTranscendental(problem.activation) && part.walk != Walk::kTiles) {
    const DataType compute = ComputeType(problem.data);
    const int64_t elements = part.unit_elements * part.wave;
    const int64_t dz_bytes = elements * static_cast<int64_t>(SizeOf(compute));
    const int64_t bytes = dz_bytes + elements * 2 * SizeOf(problem.data);
    part.keeps_dz = bytes <= 2 * kWaveBytes;
    if (part.keeps_dz && problem.data != compute && part.slices > 1) {
      part.workspace_bytes += dz_bytes;
    }
  }
  part.streams = DataBytes(problem) >= StreamedBytes();
  return part;
}

Partition PartitionSecondOrder(const NormProblem& problem) {
  return PartitionGradients(problem, {problem.has_gamma, 1, 3, 7, 6, 0, false});
}

}  // namespace cpu
}  // namespace fusednorm
