// What each pass (forward, backward, second order) takes and gives, said once. The
// lists below make
// - the TensorFlow ops, their shape functions and their kernels for the CPU, CUDA and
//   XLA (csrc/tensorflow),
// - the functions of the Python module on all devices (csrc/python), and through its
//   signatures() what Python knows of the ops (python/fusednorm/_signatures.py),
// - the buffers of problems with several sets of parameters (param_sets.h) and those of
//   emulated kernels (tests/emulation).
// docs/extending.md says which files a new operand touches.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "core/problem.h"

namespace fusednorm {

// The norms that have an op of their own.
struct Norm {
  const char* name;  // in Python
  const char* op;    // in TensorFlow
  bool is_group_norm;
  bool centred;
};
inline constexpr Norm kNorms[] = {
    {"group_norm", "GroupNorm", true, true},
    {"layer_norm", "LayerNorm", false, true},
    {"rms_norm", "RMSNorm", false, false},
};

// Which of them have an operand.
enum class Norms { kAll, kCentred, kGroupNorm };

inline bool Includes(Norms norms, const Norm& norm) {
  return norms == Norms::kAll || (norms == Norms::kCentred && norm.centred) ||
         (norms == Norms::kGroupNorm && norm.is_group_norm);
}

// The shape and the type of an operand.
enum class Part { kData, kParams, kStatistics, kMask };

// When an operand is there.
struct With {
  // Not declared in one go with `option`: what nvcc makes of that is a warning.
  using Option = bool NormOptions::*;

  Norms norms = Norms::kAll;
  // The option that says whether it is; null: it always is.
  Option option = nullptr;
  // Ops take and give it as a list of 0 or 1 tensors, whose length is this attribute;
  // null: as one tensor.
  const char* length = nullptr;
  // Older SavedModels do not know the attribute, so its default is 0. In Python the
  // operand is passed by name only. Operands that come later are the last of a pass.
  bool came_later = false;
};

inline constexpr With kAlways{};
inline constexpr With kWithGamma{Norms::kAll, &NormOptions::has_gamma, "num_gamma"};
inline constexpr With kWithBeta{Norms::kCentred, &NormOptions::has_beta, "num_beta"};
inline constexpr With kWithResidual{Norms::kAll, &NormOptions::has_residual,
                                    "num_residual"};
inline constexpr With kWithMean{Norms::kCentred};
inline constexpr With kWithMask{Norms::kGroupNorm, &NormOptions::has_mask, "num_mask",
                                /*came_later=*/true};
inline constexpr With kWithDmean{Norms::kCentred, &NormOptions::has_dstatistics};
inline constexpr With kWithDrstd{Norms::kAll, &NormOptions::has_dstatistics};
inline constexpr With kWithDdgamma{Norms::kAll, &NormOptions::has_ddgamma,
                                   "num_ddgamma"};
// The second order is of problems whose has_beta is that of ddbeta.
inline constexpr With kWithDdbeta{Norms::kCentred, &NormOptions::has_beta,
                                  "num_ddbeta"};

// Whether a problem has an operand. A norm without a mean has nothing that only centred
// norms have; the other limits are checked when a problem is made.
inline bool Has(const NormOptions& options, bool centred, const With& with) {
  if (with.norms == Norms::kCentred && !centred) return false;
  return with.option == nullptr || options.*with.option;
}

// Of all parts but a mask, which is boolean.
inline DataType TypeOf(const NormProblem& problem, Part part) {
  return part == Part::kData     ? problem.data
         : part == Part::kParams ? problem.param
                                 : ComputeType(problem.data);
}

inline int64_t SizeOf(const NormProblem& problem, Part part) {
  return part == Part::kData     ? problem.num_elements()
         : part == Part::kParams ? problem.num_params()
         : part == Part::kMask   ? problem.num_mask()
                                 : problem.num_groups();
}

inline int64_t BytesOf(const NormProblem& problem, Part part) {
  const int64_t element =
      part == Part::kMask ? 1 : static_cast<int64_t>(SizeOf(TypeOf(problem, part)));
  return SizeOf(problem, part) * element;
}

// `Pointer` is const void* for inputs, void* for outputs.
template <class Buffers, class Pointer>
struct Operand {
  // As With::Option.
  using Member = Pointer Buffers::*;
  using Input = const void* Buffers::*;

  const char* name;
  Part part;
  With with;
  Member buffer;
  const char* doc;
  // Inputs whose memory an output may take: the first of them that nobody else reads.
  static constexpr size_t kMostReuses = 3;
  Input reuses[kMostReuses] = {};
};
template <class Buffers>
using In = Operand<Buffers, const void*>;
template <class Buffers>
using Out = Operand<Buffers, void*>;

// Of each pass: its name in Python, the end of its ops' names, the name of its custom
// call under XLA, whether there are kernels for an activation and for parameters that
// differ from position to position, and the operands in the order of the ops.
template <class Buffers>
struct Signature;

template <>
struct Signature<ForwardBuffers> {
  using B = ForwardBuffers;
  static constexpr char kName[] = "forward";
  static constexpr char kOpSuffix[] = "";
  static constexpr char kTarget[] = "fusednorm_forward";
  static constexpr bool kHasActivation = true;
  static constexpr In<B> kInputs[] = {
      {"x", Part::kData, kAlways, &B::x, "what is normalized"},
      {"gamma", Part::kParams, kWithGamma, &B::gamma, "the scale"},
      {"beta", Part::kParams, kWithBeta, &B::beta, "the offset"},
      {"residual", Part::kData, kWithResidual, &B::residual, "added to x first"},
      {"mask", Part::kMask, kWithMask, &B::mask,
       "the statistics are of the positions where it is true; all are normalized"},
  };
  static constexpr Out<B> kOutputs[] = {
      {"y", Part::kData, kAlways, &B::y, "the result", {&B::residual, &B::x}},
      {"sum", Part::kData, kWithResidual, &B::sum, "x + residual", {&B::x}},
      {"mean", Part::kStatistics, kWithMean, &B::mean, "the mean of each group"},
      {"rstd", Part::kStatistics, kAlways, &B::rstd,
       "the reciprocal standard deviation (or root mean square) of each group"},
  };
};

template <>
struct Signature<BackwardBuffers> {
  using B = BackwardBuffers;
  static constexpr char kName[] = "backward";
  static constexpr char kOpSuffix[] = "Grad";
  static constexpr char kTarget[] = "fusednorm_backward";
  static constexpr bool kHasActivation = true;
  static constexpr In<B> kInputs[] = {
      {"dy", Part::kData, kAlways, &B::dy, "the gradient of y"},
      {"x", Part::kData, kAlways, &B::x,
       "what was normalized: x, or sum where there was a residual"},
      {"mean", Part::kStatistics, kWithMean, &B::mean, "as forward returned it"},
      {"rstd", Part::kStatistics, kAlways, &B::rstd, "as forward returned it"},
      {"gamma", Part::kParams, kWithGamma, &B::gamma, "as forward was given it"},
      {"beta", Part::kParams, kWithBeta, &B::beta, "as forward was given it"},
      {"dsum", Part::kData, kWithResidual, &B::dsum, "the gradient of sum"},
      {"dmean", Part::kStatistics, kWithDmean, &B::dmean, "the gradient of mean"},
      {"drstd", Part::kStatistics, kWithDrstd, &B::drstd, "the gradient of rstd"},
      {"mask", Part::kMask, kWithMask, &B::mask, "as forward was given it"},
  };
  static constexpr Out<B> kOutputs[] = {
      {"dx",
       Part::kData,
       kAlways,
       &B::dx,
       "the gradient of x, and of the residual",
       {&B::dy, &B::x}},
      {"dgamma", Part::kParams, kWithGamma, &B::dgamma, "the gradient of gamma"},
      {"dbeta", Part::kParams, kWithBeta, &B::dbeta, "the gradient of beta"},
  };
};

template <>
struct Signature<SecondOrderBuffers> {
  using B = SecondOrderBuffers;
  static constexpr char kName[] = "second_order";
  static constexpr char kOpSuffix[] = "GradGrad";
  static constexpr char kTarget[] = "fusednorm_second_order";
  static constexpr bool kHasActivation = false;
  static constexpr In<B> kInputs[] = {
      {"dy", Part::kData, kAlways, &B::dy, "as backward was given it"},
      {"x", Part::kData, kAlways, &B::x, "as backward was given it"},
      {"mean", Part::kStatistics, kWithMean, &B::mean, "as backward was given it"},
      {"rstd", Part::kStatistics, kAlways, &B::rstd, "as backward was given it"},
      {"gamma", Part::kParams, kWithGamma, &B::gamma, "as backward was given it"},
      {"drstd", Part::kStatistics, kWithDrstd, &B::drstd, "as backward was given it"},
      {"ddx", Part::kData, kAlways, &B::ddx, "the gradient of dx"},
      {"ddgamma", Part::kParams, kWithDdgamma, &B::ddgamma, "the gradient of dgamma"},
      {"ddbeta", Part::kParams, kWithDdbeta, &B::ddbeta, "the gradient of dbeta"},
  };
  static constexpr Out<B> kOutputs[] = {
      {"d_dy",
       Part::kData,
       kAlways,
       &B::d_dy,
       "the gradient of dy",
       {&B::dy, &B::x, &B::ddx}},
      {"d_x",
       Part::kData,
       kAlways,
       &B::d_x,
       "the gradient of x, through mean and rstd as well",
       {&B::dy, &B::x, &B::ddx}},
      {"d_gamma", Part::kParams, kWithGamma, &B::d_gamma, "the gradient of gamma"},
      {"d_dmean", Part::kStatistics, kWithMean, &B::d_dmean, "the gradient of dmean"},
      {"d_drstd", Part::kStatistics, kAlways, &B::d_drstd,
       "the gradient of drstd; that of dsum is ddx"},
  };
};

template <class Buffers>
std::string OpName(const Norm& norm) {
  return std::string("Fusednorm>") + norm.op + Signature<Buffers>::kOpSuffix;
}

}  // namespace fusednorm
