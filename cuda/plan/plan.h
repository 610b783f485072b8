// How a problem runs on a device: a scheme with its geometry, the launches, and the
// workspace. A pure function of the problem and the device, and the only place with
// heuristics: launches obey it, and `fusednorm explain` prints it.
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

// There are no elements: nothing is launched but fills of the small outputs.
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
  int cluster = 1;  // consecutive blocks that share
  int64_t shared_bytes = 0;
  // Loads of the tensors that a thread has in flight, in bytes; 0: not known.
  int64_t bytes_in_flight = 0;
  // Threads of a multiprocessor that are sure to find registers and shared memory; 0:
  // not known.
  int threads_resident = 0;
  bool waits = false;  // blocks wait for others of the grid
};

// The bytes of what a pass reads and writes: the least that it can move.
struct TensorBytes {
  int64_t data = 0;  // of x, and of each tensor of its shape:
  int inputs = 0;
  int outputs = 0;
  int64_t mask = 0;
  int64_t statistics_read = 0;
  int64_t statistics_written = 0;
  int64_t params_read = 0;  // gamma and beta, of which so many samples have the same
  int64_t param_uses = 1;
  int64_t params_written = 0;  // their gradients

  int64_t sum() const {
    return (inputs + outputs) * data + mask + statistics_read + statistics_written +
           params_read + params_written;
  }
};

struct Plan {
  Geometry geometry;
  int num_launches = 0;
  // Second order: the launches, and what they move, once a set of parameters.
  int64_t repeats = 1;
  Launch launches[3];
  bool stream = false;  // outputs bypass L2

  // Device memory, 256-byte aligned, any content: the groups' partial sums, then those
  // of dgamma and those of dbeta, then the counts of a mask.
  int64_t workspace_bytes = 0;
  int64_t partial_bytes = 0;
  int64_t param_bytes = 0;  // of each of the two, or of d_gamma
  int64_t count_bytes = 0;
  int64_t sets = 0;         // of dgamma/dbeta partial sums; 0: they are the gradients
  int64_t mask_pieces = 1;  // that a sample of a mask is counted in

  TensorBytes tensors;

  bool empty() const { return std::holds_alternative<EmptyGeometry>(geometry); }
};

// The data pointers and parameters allow 16-byte accesses.
bool Aligned(const ForwardBuffers& buffers);
bool Aligned(const BackwardBuffers& buffers);
bool Aligned(const SecondOrderBuffers& buffers);

// All plans that compute a pass, best first. There is always one.
std::vector<Plan> ForwardCandidates(const NormProblem& problem, const Device& device,
                                    bool aligned);
// `params`: dgamma or dbeta is wanted.
std::vector<Plan> BackwardCandidates(const NormProblem& problem, const Device& device,
                                     bool aligned, bool params);

// The best of the candidates.
Plan PlanForward(const NormProblem& problem, const Device& device, bool aligned);
Plan PlanBackward(const NormProblem& problem, const Device& device, bool aligned,
                  bool params);
// `params`: d_gamma is wanted.
Plan PlanSecondOrder(const NormProblem& problem, const Device& device, bool aligned,
                     bool params);

}  // namespace cuda
}  // namespace fusednorm
