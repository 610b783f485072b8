// What each direction takes and gives, said once for all who go through the buffers:
// XLA's lowering, which makes a custom call, its handlers, which run it, and problems
// with several sets of parameters (param_sets.h). One more direction is one more
// specialization of Signature, and its lines where XLA's kernels are registered
// (xla_kernels.cc) and handlers (xla_host.cc, xla_cuda.cc).
#pragma once

#include <cstdint>

#include "core/problem.h"

namespace fusednorm {

// The shape and the type of an operand.
enum class Part { kData, kParams, kStatistics, kMask };

// What of a problem an operand comes with.
enum class With {
  kAny,
  kGamma,
  kBeta,
  kResidual,
  kMean,
  kMask,
  kDdgamma,
  kDmean,
  kDrstd
};

inline bool Has(const NormOptions& options, bool centred, With with) {
  switch (with) {
    case With::kAny:
      return true;
    case With::kGamma:
      return options.has_gamma;
    case With::kBeta:
      return options.has_beta;
    case With::kResidual:
      return options.has_residual;
    case With::kMean:
      return centred;
    case With::kMask:
      return options.has_mask;
    case With::kDdgamma:
      return options.has_ddgamma;
    case With::kDmean:
      return centred && options.has_dstatistics;
    case With::kDrstd:
      return options.has_dstatistics;
  }
  return false;
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
  const char* name;
  Part part;
  With with;
  // Not declared in one go: what nvcc makes of that is a warning.
  using Member = Pointer Buffers::*;
  Member buffer;
};
template <class Buffers>
using In = Operand<Buffers, const void*>;
template <class Buffers>
using Out = Operand<Buffers, void*>;

// The name of the custom call under XLA, and the operands in the order of the ops.
template <class Buffers>
struct Signature;

template <>
struct Signature<ForwardBuffers> {
  using B = ForwardBuffers;
  static constexpr char kTarget[] = "fusednorm_forward";
  static constexpr In<B> kInputs[] = {
      {"x", Part::kData, With::kAny, &B::x},
      {"gamma", Part::kParams, With::kGamma, &B::gamma},
      {"beta", Part::kParams, With::kBeta, &B::beta},
      {"residual", Part::kData, With::kResidual, &B::residual},
      {"mask", Part::kMask, With::kMask, &B::mask},
  };
  static constexpr Out<B> kOutputs[] = {
      {"y", Part::kData, With::kAny, &B::y},
      {"sum", Part::kData, With::kResidual, &B::sum},
      {"mean", Part::kStatistics, With::kMean, &B::mean},
      {"rstd", Part::kStatistics, With::kAny, &B::rstd},
  };
};

template <>
struct Signature<BackwardBuffers> {
  using B = BackwardBuffers;
  static constexpr char kTarget[] = "fusednorm_backward";
  static constexpr In<B> kInputs[] = {
      {"dy", Part::kData, With::kAny, &B::dy},
      {"x", Part::kData, With::kAny, &B::x},
      {"mean", Part::kStatistics, With::kMean, &B::mean},
      {"rstd", Part::kStatistics, With::kAny, &B::rstd},
      {"gamma", Part::kParams, With::kGamma, &B::gamma},
      {"beta", Part::kParams, With::kBeta, &B::beta},
      {"dsum", Part::kData, With::kResidual, &B::dsum},
      {"dmean", Part::kStatistics, With::kDmean, &B::dmean},
      {"drstd", Part::kStatistics, With::kDrstd, &B::drstd},
      {"mask", Part::kMask, With::kMask, &B::mask},
  };
  static constexpr Out<B> kOutputs[] = {
      {"dx", Part::kData, With::kAny, &B::dx},
      {"dgamma", Part::kParams, With::kGamma, &B::dgamma},
      {"dbeta", Part::kParams, With::kBeta, &B::dbeta},
  };
};

template <>
struct Signature<SecondOrderBuffers> {
  using B = SecondOrderBuffers;
  static constexpr char kTarget[] = "fusednorm_second_order";
  static constexpr In<B> kInputs[] = {
      {"dy", Part::kData, With::kAny, &B::dy},
      {"x", Part::kData, With::kAny, &B::x},
      {"mean", Part::kStatistics, With::kMean, &B::mean},
      {"rstd", Part::kStatistics, With::kAny, &B::rstd},
      {"gamma", Part::kParams, With::kGamma, &B::gamma},
      {"drstd", Part::kStatistics, With::kDrstd, &B::drstd},
      {"ddx", Part::kData, With::kAny, &B::ddx},
      {"ddgamma", Part::kParams, With::kDdgamma, &B::ddgamma},
      {"ddbeta", Part::kParams, With::kBeta, &B::ddbeta},
  };
  static constexpr Out<B> kOutputs[] = {
      {"d_dy", Part::kData, With::kAny, &B::d_dy},
      {"d_x", Part::kData, With::kAny, &B::d_x},
      {"d_gamma", Part::kParams, With::kGamma, &B::d_gamma},
      {"d_dmean", Part::kStatistics, With::kMean, &B::d_dmean},
      {"d_drstd", Part::kStatistics, With::kAny, &B::d_drstd},
  };
};

}  // namespace fusednorm
