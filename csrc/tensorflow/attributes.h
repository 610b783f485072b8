// The attributes that all ops share, read once for shape functions and kernels alike.
#pragma once

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "core/problem.h"
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

// Which op a node is: GroupNorm has `axis` and `groups`, the others `axes`.
struct NodeAttributes {
  bool is_group_norm = false;
  bool centred = true;
  int64_t axis = -1;
  int64_t groups = 1;
  std::vector<int64_t> axes;
  NormOptions options;

  Status MakeProblem(const std::vector<int64_t>& shape, NormProblem* problem,
                     NormShapes* shapes) const {
    return is_group_norm ? MakeGroupNorm(shape, axis, groups, options, problem, shapes)
                         : MakeAxesNorm(shape, axes, centred, options, problem, shapes);
  }
};

// Which inputs and attributes an op has.
struct OpKind {
  bool is_group_norm;
  bool centred;
  bool is_second_order = false;
};

// Whether the list `name` has its one tensor.
template <class Context>
absl::Status ReadCount(Context* context, const std::string& name, bool* has) {
  int count = 0;
  TF_RETURN_IF_ERROR(context->GetAttr("num_" + name, &count));
  *has = count == 1;
  if (count <= 1) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(name, " must be 0 or 1 tensors"));
}

template <class Context>
absl::Status ReadActivation(Context* context, Activation* activation) {
  std::string name;
  TF_RETURN_IF_ERROR(context->GetAttr("activation", &name));
  if (ActivationFromName(name, activation)) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("activation must be one of ", ActivationNames(), ", got ", name));
}

// `Context` is an OpKernelConstruction or an InferenceContext; both have GetAttr.
template <class Context>
absl::Status ReadAttributes(Context* context, const OpKind& kind,
                            NodeAttributes* attributes) {
  attributes->is_group_norm = kind.is_group_norm;
  attributes->centred = kind.centred;
  if (kind.is_group_norm) {
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
  TF_RETURN_IF_ERROR(ReadCount(context, "gamma", &options.has_gamma));
  if (kind.is_second_order) {
    TF_RETURN_IF_ERROR(ReadCount(context, "ddgamma", &options.has_ddgamma));
    if (options.has_ddgamma && !options.has_gamma) {
      return absl::InvalidArgumentError("ddgamma must be 0 tensors without gamma");
    }
    if (kind.centred) {
      TF_RETURN_IF_ERROR(ReadCount(context, "ddbeta", &options.has_beta));
    }
  } else {
    TF_RETURN_IF_ERROR(ReadActivation(context, &options.activation));
    TF_RETURN_IF_ERROR(context->GetAttr("per_position", &options.per_position));
    if (kind.is_group_norm) {
      TF_RETURN_IF_ERROR(ReadCount(context, "mask", &options.has_mask));
    }
    if (kind.centred) {
      TF_RETURN_IF_ERROR(ReadCount(context, "beta", &options.has_beta));
    }
    TF_RETURN_IF_ERROR(ReadCount(context, "residual", &options.has_residual));
  }
  return ToTensorFlow(CheckOptions(options));
}

}  // namespace fusednorm
