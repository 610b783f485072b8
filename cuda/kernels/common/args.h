// The arguments of kernels.
#pragma once

#include <cstdint>

#include "core/portability.h"
#include "core/problem.h"
#include "cuda/kernels/common/divider.h"

namespace fusednorm {
namespace cuda {

// How gamma and beta vary along a row.
enum class ParamMode {
  kAlong,     // one for each element
  kConstant,  // one for the whole row
  kRuns       // one for each run of Q elements
};

struct Affine {
  const void* gamma = nullptr;
  const void* beta = nullptr;
  bool narrow = false;  // stored in the data's type, not in the compute type
  bool zero_centered = false;
};

// Rows: P = 1, and each group is `length` = K * Q contiguous elements.
struct Rows {
  int64_t count = 0;  // N * G
  int64_t length = 0;
  int64_t k = 1;
  Divider g;  // row r belongs to group r % G
  // Row r has the gamma and beta of its group, number r % sets. Where each sample has
  // its own, it has those of its sample, number r / sets, and G and Q are 1.
  Divider sets;
  bool by_sample = false;
  Divider samples;          // number of samples with parameters of their own, or 1
  Divider q;                // element i of a row belongs to channel i / Q
  bool whole_runs = false;  // an access never crosses from one run to the next
  ParamMode mode = ParamMode::kAlong;
};

// The positions that the statistics are of: bool [samples, P, Q]. See mask.cuh.
struct Mask {
  const uint8_t* positions = nullptr;  // null: no position is hidden
  Divider groups;                      // number of groups of one sample
  Divider q;
  int64_t sample = 1;    // number of positions of one sample
  int64_t channels = 1;  // elements that one group has at each position
  // Only in backward: the number of visible positions of each piece of a sample, in the
  // compute type, [samples, pieces].
  void* counts = nullptr;
  Divider pieces;
};

// A number that kernels take in their compute type. Both types are passed, because the
// conversion in the kernel would cost each thread a slow instruction.
class Real {
 public:
  Real(double value) : double_(value), float_(static_cast<float>(value)) {}
  FUSEDNORM_INLINE explicit operator double() const { return double_; }
  FUSEDNORM_INLINE explicit operator float() const { return float_; }

 private:
  double double_;
  float float_;
};

// The arguments of all passes.
struct NormArgs {
  Affine affine;
  Activation activation = Activation::kNone;
  bool centred = true;
  bool stream = false;  // written past L2
  Real epsilon = 0;
  Real inverse_count = 1;  // 1 / the number of elements of a group
  Rows rows;
};

struct ForwardArgs : NormArgs {
  const void* x = nullptr;
  const void* residual = nullptr;
  void* y = nullptr;
  void* sum = nullptr;
  void* mean = nullptr;
  void* rstd = nullptr;
  void* partial = nullptr;  // `stream`: counters, and moments of slabs
  Mask mask;                // only `stream` takes one
};

// The second stage of dgamma and dbeta adds up `sets` partial sums of each. In every
// set, `q` neighbouring numbers belong to one parameter.
struct ParamSums {
  // The partial sums in the compute type, [sets, params, q]; null if the gradient is
  // not wanted. They are dgamma and dbeta themselves where there is nothing to add up.
  void* gamma = nullptr;
  void* beta = nullptr;
  void* dgamma = nullptr;
  void* dbeta = nullptr;
  int64_t sets = 0;
  int64_t params = 0;
  Divider q;
  bool narrow = false;  // dgamma and dbeta have the data's type
};

// What the backward pass and the second order both read, and where they leave sums.
struct GradientArgs : NormArgs {
  const void* dy = nullptr;
  const void* x = nullptr;
  const void* mean = nullptr;
  const void* rstd = nullptr;
  const void* drstd = nullptr;
  void* partial = nullptr;  // sums of parts of groups; `stream`: counters, too
  ParamSums params;
};

struct BackwardArgs : GradientArgs {
  const void* dsum = nullptr;
  const void* dmean = nullptr;
  void* dx = nullptr;
  Mask mask;  // only `stream` takes one
};

// In `params`, d_gamma takes the place of dgamma.
struct SecondOrderArgs : GradientArgs {
  const void* ddx = nullptr;
  const void* ddgamma = nullptr;
  const void* ddbeta = nullptr;
  void* d_dy = nullptr;
  void* d_x = nullptr;
  void* d_dmean = nullptr;
  void* d_drstd = nullptr;
};

}  // namespace cuda
}  // namespace fusednorm
