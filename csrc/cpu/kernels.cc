// Every CPU kernel, for one instruction set (FUSEDNORM_ISA: baseline, avx2, avx512) and
// one data type (FUSEDNORM_DATA: float, half, bfloat16, double). The build compiles
// this file once for each pair.
//
// Everything below is in an unnamed namespace and calls no template of the standard
// library, so that the rest of the program cannot share code for a newer processor.
#include "cpu/kernels.h"

#include <math.h>
#include <stdint.h>
#include <stdlib.h>

#include <type_traits>
#include <utility>

#if defined(__AVX2__)
#include <immintrin.h>
#elif defined(__x86_64__)
#include <emmintrin.h>
#endif

#include "core/first_order.h"
#include "core/second_order.h"

namespace fusednorm {
namespace cpu {
namespace {

// Each file uses those before it.
// clang-format off
#include "cpu/float_environment.h"
#include "cpu/wide.h"
#include "cpu/vec.h"
#include "cpu/vec_math.h"
#include "cpu/params.h"
#include "cpu/segment.h"
#include "cpu/segment_second_order.h"
#include "cpu/moments.h"
#include "cpu/param_sums.h"
#include "cpu/group.h"
#include "cpu/short_rows.h"
#include "cpu/rows.h"
#include "cpu/lane_sums.h"
#include "cpu/lane_moments.h"
#include "cpu/lanes.h"
#include "cpu/workspace.h"
#include "cpu/position_mask.h"
#include "cpu/position_params.h"
#include "cpu/position_rows.h"
#include "cpu/position_lanes.h"
#include "cpu/forward.h"
#include "cpu/backward.h"
#include "cpu/tile.h"
#include "cpu/tile_passes.h"
#include "cpu/second_order.h"
// clang-format on

#define FUSEDNORM_JOIN_(a, b, c) a##_##b##_##c
#define FUSEDNORM_JOIN(a, b, c) FUSEDNORM_JOIN_(a, b, c)

namespace data {
typedef FloatData type_float;
typedef HalfData type_half;
typedef Bfloat16Data type_bfloat16;
typedef DoubleData type_double;
}  // namespace data
#define FUSEDNORM_TYPE_(name) type_##name
#define FUSEDNORM_TYPE(name) FUSEDNORM_TYPE_(name)
typedef data::FUSEDNORM_TYPE(FUSEDNORM_DATA) Data;

// Runs Pass<Data, WalkType> with a walk.
template <template <class, class> class Pass, class WalkType, class Buffers>
void RunWalk(const NormProblem& problem, const Partition& partition,
             const WalkType& walk, const Buffers& buffers, const ParallelFor& parallel,
             char* workspace) {
  const DefaultFloatEnvironment environment;
  Pass<Data, WalkType>(problem, partition, walk, buffers, Workspace(workspace))
      .Run(parallel);
}

template <template <class, class> class Pass, class Buffers>
void RunPass(const NormProblem& problem, const Partition& partition,
             const Buffers& buffers, const ParallelFor& parallel, char* workspace) {
  if (partition.walk == Walk::kRows) {
    const Rows<Data> walk(problem, partition);
    RunWalk<Pass>(problem, partition, walk, buffers, parallel, workspace);
  } else {
    const Lanes<Data> walk(problem, partition);
    RunWalk<Pass>(problem, partition, walk, buffers, parallel, workspace);
  }
}

template <template <class, class> class Pass, class Buffers>
void RunPositions(const NormProblem& problem, const Partition& partition,
                  const Buffers& buffers, const ParallelFor& parallel,
                  char* workspace) {
  if (partition.walk == Walk::kRows) {
    const PositionRows<Data> walk(problem, partition, buffers);
    RunWalk<Pass>(problem, partition, walk, buffers, parallel, workspace);
  } else {
    const PositionLanes<Data> walk(problem, partition, buffers);
    RunWalk<Pass>(problem, partition, walk, buffers, parallel, workspace);
  }
}

// The same for passes that also run on tiles and with masks or parameters of each
// position.
template <template <class, class> class Pass, template <class> class OnTiles,
          class Buffers>
void RunPass(const NormProblem& problem, const Partition& partition,
             const Buffers& buffers, const ParallelFor& parallel, char* workspace) {
  if (partition.of_positions) {
    return RunPositions<Pass>(problem, partition, buffers, parallel, workspace);
  }
  if (partition.walk != Walk::kTiles) {
    return RunPass<Pass>(problem, partition, buffers, parallel, workspace);
  }
  const DefaultFloatEnvironment environment;
  OnTiles<Data>(problem, partition, buffers, Workspace(workspace)).Run(parallel);
}

}  // namespace

extern const Kernels FUSEDNORM_JOIN(kKernels, FUSEDNORM_ISA, FUSEDNORM_DATA);
const Kernels FUSEDNORM_JOIN(kKernels, FUSEDNORM_ISA, FUSEDNORM_DATA) = {
    RunPass<Forward, ForwardTiles, ForwardBuffers>,
    RunPass<Backward, BackwardTiles, BackwardBuffers>,
    RunPass<SecondOrder, SecondOrderBuffers>};

}  // namespace cpu
}  // namespace fusednorm
