// The plan says how a problem runs on a device: a scheme with its geometry, the
// launches, and the workspace. It is a pure function of the problem and the device, and
// all heuristics are in it. Launches obey the plan, and `fusednorm explain` prints it.
#pragma once

#include <cstdint>
#include <variant>
#include <vector>

#include "core/problem.h"
#include "cuda/device/devices.h"
#include "cuda/kernels/columns/geometry.h"
#include "cuda/kernels/rows/geometry.h"
#include "cuda/kernels/second_order/geometry.h"
#include "cuda/kernels/stream/geometry.h"
#include "cuda/kernels/tile/geometry.h"

namespace fusednorm {
namespace cuda {

// x has no elements. Only small outputs are filled, and no kernel is launched.
struct EmptyGeometry {
  static constexpr char kName[] = "empty";

  template <class Visit>
  void ForEach(Visit&&) const {}
};

using Geometry = std::variant<EmptyGeometry, RowsGeometry, ColumnsGeometry,
                              TileGeometry, StreamGeometry, SecondOrderGeometry>;
// The name of the scheme.
const char* Name(const Geometry& geometry);

constexpr int64_t kMaxGrid = (int64_t{1} << 31) - 1;

// One kernel launch; grids have one dimension.
struct Launch {
  const char* kernel = nullptr;
  int64_t blocks = 0;
  int threads = 0;
  int cluster = 1;  // consecutive blocks that form a cluster
  int64_t shared_bytes = 0;
  // The bytes of tensors that a thread has requested at the same time; 0: not known.
  int64_t bytes_in_flight = 0;
  // The threads of a multiprocessor for which registers and shared memory are certain
  // to be enough; 0: not known.
  int threads_resident = 0;
  bool waits = false;  // blocks wait for other blocks of the grid
};

// The bytes that a pass reads and writes at least.
struct TensorBytes {
  int64_t data = 0;  // of x, and of each tensor of its shape
  int inputs = 0;
  int outputs = 0;
  int64_t mask = 0;
  int64_t statistics_read = 0;
  int64_t statistics_written = 0;
  int64_t params_read = 0;  // gamma and beta, which `param_uses` samples share
  int64_t param_uses = 1;
  int64_t params_written = 0;  // gradients of gamma and beta

  int64_t sum() const {
    return (inputs + outputs) * data + mask + statistics_read + statistics_written +
           params_read + params_written;
  }
};

struct Plan {
  Geometry geometry;
  int num_launches = 0;
  // Second order: the launches are repeated for each set of parameters.
  int64_t repeats = 1;
  Launch launches[3];
  bool stream = false;  // outputs are written past L2

  // Device memory, 256-byte aligned, with any content. It holds the partial sums of
  // groups, then those of dgamma, then those of dbeta, then the counts of a mask.
  int64_t workspace_bytes = 0;
  int64_t partial_bytes = 0;
  int64_t param_bytes = 0;  // of dgamma, of dbeta, or of d_gamma
  int64_t count_bytes = 0;
  int64_t sets = 0;         // partial sums of dgamma and dbeta; 0: none
  int64_t mask_pieces = 1;  // pieces in which a sample of a mask is counted

  TensorBytes tensors;

  bool empty() const { return std::holds_alternative<EmptyGeometry>(geometry); }
};

// Whether the data pointers and parameters allow 16-byte accesses.
bool Aligned(const ForwardBuffers& buffers);
bool Aligned(const BackwardBuffers& buffers);
bool Aligned(const SecondOrderBuffers& buffers);

// All plans that compute a pass, best first. There is at least one.
std::vector<Plan> ForwardCandidates(const NormProblem& problem, const Device& device,
                                    bool aligned);
// `params`: dgamma or dbeta is wanted.
std::vector<Plan> BackwardCandidates(const NormProblem& problem, const Device& device,
                                     bool aligned, bool params);

// The first of the candidates.
Plan PlanForward(const NormProblem& problem, const Device& device, bool aligned);
Plan PlanBackward(const NormProblem& problem, const Device& device, bool aligned,
                  bool params);
// `params`: d_gamma is wanted.
Plan PlanSecondOrder(const NormProblem& problem, const Device& device, bool aligned,
                     bool params);

}  // namespace cuda
}  // namespace fusednorm
