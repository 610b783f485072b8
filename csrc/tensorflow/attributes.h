// The attributes that all ops share, read once for shape functions and kernels alike.
#pragma once

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "core/problem.h"
#include "core/signature.h"
#include "tensorflow/core/framework/types.pb.h"
#include "tensorflow/core/platform/errors.h"

namespace fusednorm {

inline absl::Status ToTensorFlow(const Status& status) {
  if (status.ok()) return absl::OkStatus();
  if (status.out_of_memory()) return absl::ResourceExhaustedError(status.message());
  if (status.internal()) return absl::InternalError(status.message());
  return absl::InvalidArgumentError(status.message());
}

inline bool FromTensorFlow(tensorflow::DataType from, DataType* to) {
  switch (from) {
    case tensorflow::DT_FLOAT:
      *to = DataType::kFloat;
      return true;
    case tensorflow::DT_HALF:
      *to = DataType::kHalf;
      return true;
    case tensorflow::DT_BFLOAT16:
      *to = DataType::kBfloat16;
      return true;
    case tensorflow::DT_DOUBLE:
      *to = DataType::kDouble;
      return true;
    default:
      return false;
  }
}

// GroupNorm has `axis` and `groups`, the others `axes`.
struct NodeAttributes {
  Norm norm = kNorms[0];
  int64_t axis = -1;
  int64_t groups = 1;
  std::vector<int64_t> axes;
  NormOptions options;

  Status MakeProblem(const std::vector<int64_t>& shape, NormProblem* problem,
                     NormShapes* shapes) const {
    return norm.is_group_norm
               ? MakeGroupNorm(shape, axis, groups, options, problem, shapes)
               : MakeAxesNorm(shape, axes, norm.centred, options, problem, shapes);
  }
};

// Which operands of a pass there are: the lengths of lists say it, and what is no list
// is always there.
template <class Buffers, class Context>
absl::Status ReadOperands(Context* context, const Norm& norm, NormOptions* options) {
  for (const In<Buffers>& operand : Signature<Buffers>::kInputs) {
    const With& with = operand.with;
    if (with.option == nullptr || !Includes(with.norms, norm)) continue;
    int count = 1;
    if (with.length != nullptr) {
      TF_RETURN_IF_ERROR(context->GetAttr(with.length, &count));
    }
    if (count > 1) {
      return absl::InvalidArgumentError(
          absl::StrCat(operand.name, " must be 0 or 1 tensors"));
    }
    options->*with.option = count == 1;
  }
  if (options->has_ddgamma && !options->has_gamma) {
    return absl::InvalidArgumentError("ddgamma must be 0 tensors without gamma");
  }
  return absl::OkStatus();
}

template <class Context>
absl::Status ReadActivation(Context* context, Activation* activation) {
  std::string name;
  TF_RETURN_IF_ERROR(context->GetAttr("activation", &name));
  if (ActivationFromName(name, activation)) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("activation must be one of ", ActivationNames(), ", got ", name));
}

// The attributes of a node of a pass. `Context` is an OpKernelConstruction or an
// InferenceContext; both have GetAttr.
template <class Buffers, class Context>
absl::Status ReadAttributes(Context* context, const Norm& norm,
                            NodeAttributes* attributes) {
  attributes->norm = norm;
  if (norm.is_group_norm) {
    TF_RETURN_IF_ERROR(context->GetAttr("axis", &attributes->axis));
    TF_RETURN_IF_ERROR(context->GetAttr("groups", &attributes->groups));
  } else {
    TF_RETURN_IF_ERROR(context->GetAttr("axes", &attributes->axes));
  }
  NormOptions& options = attributes->options;
  tensorflow::DataType data, param, statistics;
  TF_RETURN_IF_ERROR(context->GetAttr("T", &data));
  TF_RETURN_IF_ERROR(context->GetAttr("U", &param));
  TF_RETURN_IF_ERROR(context->GetAttr("S", &statistics));
  DataType statistics_type;
  if (!FromTensorFlow(data, &options.data) || !FromTensorFlow(param, &options.param) ||
      !FromTensorFlow(statistics, &statistics_type)) {
    return absl::InvalidArgumentError("T, U and S must be floating-point types");
  }
  if (statistics_type != ComputeType(options.data)) {
    return absl::InvalidArgumentError(
        absl::StrCat("S must be ", Name(ComputeType(options.data)), " for T ",
                     Name(options.data), ", got ", Name(statistics_type)));
  }
  float epsilon, epsilon_low;
  TF_RETURN_IF_ERROR(context->GetAttr("epsilon", &epsilon));
  TF_RETURN_IF_ERROR(context->GetAttr("epsilon_low", &epsilon_low));
  options.epsilon = static_cast<double>(epsilon) + epsilon_low;
  TF_RETURN_IF_ERROR(context->GetAttr("zero_centered", &options.zero_centered));
  TF_RETURN_IF_ERROR(context->GetAttr("per_sample", &options.per_sample));
  if (Signature<Buffers>::kHasActivation) {
    TF_RETURN_IF_ERROR(ReadActivation(context, &options.activation));
    TF_RETURN_IF_ERROR(context->GetAttr("per_position", &options.per_position));
  }
  TF_RETURN_IF_ERROR(ReadOperands<Buffers>(context, norm, &options));
  return ToTensorFlow(CheckOptions(options));
}

}  // namespace fusednorm
