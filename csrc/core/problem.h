// The description that all norms share. See docs/architecture.md, "One problem, not
// four".
#pragma once

#include <cstdint>
#include <vector>

#include "core/activation.h"
#include "core/data_type.h"
#include "core/portability.h"
#include "core/status.h"

namespace fusednorm {

// What all norms have in common: everything of a problem but the shape of x.
struct NormOptions {
  DataType data = DataType::kFloat;
  DataType param = DataType::kFloat;
  double epsilon = 1e-3;
  Activation activation = Activation::kNone;
  bool has_gamma = false;
  bool has_beta = false;
  bool has_residual = false;
  bool has_ddgamma = false;      // second order: a gradient reaches dgamma
  bool zero_centered = false;    // scale by 1 + gamma
  bool per_sample = false;       // each sample has its own gamma and beta
  bool per_position = false;     // gamma and beta have the shape of x
  bool has_mask = false;         // the statistics are of some positions only
  bool has_dstatistics = false;  // XLA's gradients: dmean and drstd are operands
};

// A dense row-major tensor seen as x[N, P, G, K, Q].
//
// Each (N, G) has statistics over (P, K, Q). Where Q is not reduced, each (N, G, Q) has
// statistics over (P, K). gamma and beta are indexed by (G, K). There may be several
// sets of them, one for each N / param_sets successive indices of N, or they may be
// indexed as x is.
//
// A mask [mask_n, P, mask_q] says which positions the statistics are of. All groups and
// all K of a sample have the same mask. The mask keeps its axes where groups of several
// samples are seen as groups of one, or K and Q as one run (param_sets.h). So, for an
// element of group g of all N * G groups, at index i of its K * Q, the mask's first
// index is g / groups_of_mask(), and its last index is i % mask_q. All positions are
// normalized, hidden ones too, but dx of hidden positions has no share of the group's
// sums.
struct NormProblem : NormOptions {
  int64_t n = 1;
  int64_t p = 1;
  int64_t g = 1;
  int64_t k = 1;
  int64_t q = 1;
  bool reduces_q = true;
  int64_t param_sets = 1;
  int64_t mask_n = 1;
  int64_t mask_q = 1;
  bool centred = true;  // false: root mean square, no mean

  FUSEDNORM_INLINE int64_t num_elements() const { return n * p * g * k * q; }
  FUSEDNORM_INLINE int64_t num_groups() const { return n * g * (reduces_q ? 1 : q); }
  FUSEDNORM_INLINE int64_t num_params() const {
    return per_position ? num_elements() : param_sets * g * k;
  }
  FUSEDNORM_INLINE int64_t num_mask() const { return mask_n * p * mask_q; }
  FUSEDNORM_INLINE int64_t groups_of_mask() const { return n * g / mask_n; }
  // The number of elements that share one mean and rstd, hidden ones included.
  FUSEDNORM_INLINE int64_t group_size() const { return p * k * (reduces_q ? q : 1); }
};

// Calls visit(name, field) for all there is in a problem; const or not.
template <class Problem, class Visitor>
void VisitFields(Problem& problem, Visitor&& visit) {
  visit("n", problem.n);
  visit("p", problem.p);
  visit("g", problem.g);
  visit("k", problem.k);
  visit("q", problem.q);
  visit("param_sets", problem.param_sets);
  visit("mask_n", problem.mask_n);
  visit("mask_q", problem.mask_q);
  visit("reduces_q", problem.reduces_q);
  visit("centred", problem.centred);
  visit("data", problem.data);
  visit("param", problem.param);
  visit("epsilon", problem.epsilon);
  visit("activation", problem.activation);
  visit("has_gamma", problem.has_gamma);
  visit("has_beta", problem.has_beta);
  visit("has_residual", problem.has_residual);
  visit("has_ddgamma", problem.has_ddgamma);
  visit("has_dstatistics", problem.has_dstatistics);
  visit("zero_centered", problem.zero_centered);
  visit("per_sample", problem.per_sample);
  visit("per_position", problem.per_position);
  visit("has_mask", problem.has_mask);
}

// Checks what does not depend on a shape: epsilon is finite and >= 0, and the
// parameters have a type that the data's type allows.
Status CheckOptions(const NormOptions& options);

// Resolves a channel axis that may be negative; the batch axis 0 is refused.
Status ResolveChannelAxis(int64_t rank, int64_t axis, int64_t* resolved);

// Resolves `groups` for a known number of channels; -1 means one group for each
// channel.
Status ResolveGroups(int64_t channels, int64_t groups, int64_t* resolved);

// Resolves axes that may be negative to [first, first + axes.size()). They must be
// consecutive and increasing. Where each sample has its own parameters, they must not
// include the batch.
Status ResolveAxes(int64_t rank, const std::vector<int64_t>& axes, bool per_sample,
                   int64_t* first);

// Checks that the second order has kernels for the options: no activation, no mask, no
// parameters of each position.
Status CheckSecondOrder(const NormOptions& options);

// The shapes of what goes with x.
struct NormShapes {
  std::vector<int64_t> params;      // gamma and beta
  std::vector<int64_t> statistics;  // mean and rstd
  std::vector<int64_t> mask;
};

// GroupNorm, and InstanceNorm as groups = -1. x is [N, ..., C at axis, ...] and
// statistics are [N, groups]. params are [C]; if each sample has its own, [N, C]; if
// each position has its own, they have the shape of x. A mask has the shape of x
// without the channel axis.
Status MakeGroupNorm(const std::vector<int64_t>& shape, int64_t axis, int64_t groups,
                     const NormOptions& options, NormProblem* problem,
                     NormShapes* shapes);

// LayerNorm (centred) and RMSNorm over consecutive axes anywhere in x. params have the
// shape of these axes, and statistics that of the others. If each sample has its own
// params, their shape begins with the batch, axis 0; if each position has its own, they
// have the shape of x. There is no mask.
Status MakeAxesNorm(const std::vector<int64_t>& shape, const std::vector<int64_t>& axes,
                    bool centred, const NormOptions& options, NormProblem* problem,
                    NormShapes* shapes);

// Buffers are dense and row-major. They are null only where the problem does not have
// them. `y` may be x or the residual, and `sum` may be the other of the two. gamma,
// beta and their gradients are [param_sets, G, K] or, if per_position, have the shape
// of x.
struct ForwardBuffers {
  const void* x = nullptr;         // data
  const void* residual = nullptr;  // data
  const void* gamma = nullptr;     // param
  const void* beta = nullptr;      // param
  const void* mask = nullptr;      // bool [mask_n, P, mask_q], 0: hidden
  void* y = nullptr;               // data
  void* sum = nullptr;             // data, x + residual; required with a residual
  void* mean = nullptr;            // compute type [num_groups], null for RMS
  void* rstd = nullptr;            // compute type [num_groups]
};

// If there was a residual, `x` is the sum. `dx` may be dy, x or dsum.
struct BackwardBuffers {
  const void* dy = nullptr;     // data
  const void* x = nullptr;      // data
  const void* mean = nullptr;   // compute type [num_groups], null for RMS
  const void* rstd = nullptr;   // compute type [num_groups]
  const void* gamma = nullptr;  // param
  const void* beta = nullptr;   // param
  const void* dsum = nullptr;   // data, the gradient of `sum` from elsewhere, or null
  const void* dmean = nullptr;  // compute type [num_groups], or null
  const void* drstd = nullptr;  // compute type [num_groups], or null
  const void* mask = nullptr;   // bool [mask_n, P, mask_q], 0: hidden
  void* dx = nullptr;           // data; also the gradient of the residual
  void* dgamma = nullptr;       // param, or null
  void* dbeta = nullptr;        // param, or null
};

// The gradients of a backward pass without activation. The problem's has_beta says
// whether there is a ddbeta. `d_dy` and `d_x` may overwrite two of dy, x and ddx.
struct SecondOrderBuffers {
  const void* dy = nullptr;       // data
  const void* x = nullptr;        // data
  const void* mean = nullptr;     // compute type [num_groups], null for RMS
  const void* rstd = nullptr;     // compute type [num_groups]
  const void* gamma = nullptr;    // param [param_sets, G, K]
  const void* drstd = nullptr;    // compute type [num_groups], or null
  const void* ddx = nullptr;      // data; the gradient of dx
  const void* ddgamma = nullptr;  // param [param_sets, G, K], or null
  const void* ddbeta = nullptr;   // param [param_sets, G, K], or null
  void* d_dy = nullptr;           // data
  void* d_x = nullptr;            // data; includes the ways through mean and rstd
  void* d_gamma = nullptr;        // param [param_sets, G, K], or null
  void* d_dmean = nullptr;        // compute type [num_groups], or null
  void* d_drstd = nullptr;        // compute type [num_groups], or null
};

}  // namespace fusednorm
