// What kernels are called with.
#pragma once

#include <cstdint>

#include "core/portability.h"
#include "core/problem.h"
#include "cuda/kernels/common/divider.h"

namespace fusednorm {
namespace cuda {

// Which gamma and beta belong to an element of a row.
enum class ParamMode {
  kAlong,     // one for each element
  kConstant,  // one for the whole row
  kRuns       // one for each run of Q elements
};

struct Affine {
  const void* gamma = nullptr;
  const void* beta = nullptr;
  bool narrow = false;  // of the data's type, not the compute type
  bool zero_centered = false;
};

// Rows: P = 1, and each group is `length` = K * Q contiguous elements.
struct Rows {
  int64_t count = 0;  // N * G
  int64_t length = 0;
  int64_t k = 1;
  Divider g;  // a row's group is row % G
  // A row's gamma and beta are those of its group, row % sets; or, where each sample
  // has its own, of its sample, row / sets. G and Q are 1 then.
  Divider sets;
  bool by_sample = false;
  Divider samples;          // their number, or 1
  Divider q;                // an element's channel is i / Q
  bool whole_runs = false;  // an access never crosses from one run to the next
  ParamMode mode = ParamMode::kAlong;
};

// Which positions the statistics are of: bool [samples, P, Q]. See mask.cuh.
struct Mask {
  const uint8_t* positions = nullptr;  // null: of all
  Divider groups;                      // of a sample
  Divider q;
  int64_t sample = 1;    // positions of one
  int64_t channels = 1;  // elements that a group has at each
  // In backward: how many of each piece of a sample, compute type [samples, pieces].
  void* counts = nullptr;
  Divider pieces;
};

// A number that kernels take in their compute type: converting it there would cost each
// thread a slow instruction.
class Real {
 public:
  Real(double value) : double_(value), float_(static_cast<float>(value)) {}
  FUSEDNORM_INLINE explicit operator double() const { return double_; }
  FUSEDNORM_INLINE explicit operator float() const { return float_; }

 private:
  double double_;
  float float_;
};

// Common to all passes.
struct NormArgs {
  Affine affine;
  Activation activation = Activation::kNone;
  bool centred = true;
  bool stream = false;  // outputs are written past L2
  Real epsilon = 0;
  Real inverse_count = 1;  // of a group's elements
  Rows rows;
};

struct ForwardArgs : NormArgs {
  const void* x = nullptr;
  const void* residual = nullptr;
  void* y = nullptr;
  void* sum = nullptr;
  void* mean = nullptr;
  void* rstd = nullptr;
  void* partial = nullptr;  // moments of slices, where a second kernel joins them
  Mask mask;                // where a second kernel reads x again
};

// The second stage of dgamma and dbeta: `sets` partial sums of each, in which `q`
// neighbouring numbers belong to one parameter.
struct ParamSums {
  // Partial sums, compute type [sets, params, q]; null: not wanted; dgamma and dbeta
  // themselves where there is nothing to add up.
  void* gamma = nullptr;
  void* beta = nullptr;
  void* dgamma = nullptr;
  void* dbeta = nullptr;
  int64_t sets = 0;
  int64_t params = 0;
  Divider q;
  bool narrow = false;  // dgamma and dbeta have the data's type
};

// What the passes on gradients read, and where they leave sums.
struct GradientArgs : NormArgs {
  const void* dy = nullptr;
  const void* x = nullptr;
  const void* mean = nullptr;
  const void* rstd = nullptr;
  const void* drstd = nullptr;
  void* partial = nullptr;  // sums of slices, where a second kernel adds them up
  ParamSums params;
};

struct BackwardArgs : GradientArgs {
  const void* dsum = nullptr;
  const void* dmean = nullptr;
  void* dx = nullptr;
  Mask mask;  // where a second kernel reads x and dy again
};

// d_gamma has the place of dgamma in `params`.
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
