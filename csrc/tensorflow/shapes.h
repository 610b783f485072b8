// A node's problem once the shape of x is known, for all kinds of kernels.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "tensorflow/attributes.h"
#include "tensorflow/core/framework/op_kernel.h"
#include "tensorflow/core/framework/tensor_shape.h"

namespace fusednorm {

// The attributes of the node that a kernel is made for.
inline absl::Status ReadAttributes(tensorflow::OpKernelConstruction* context,
                                   NodeAttributes* attributes) {
  const std::string& op = context->def().op();
  const bool is_group_norm = op.find("GroupNorm") != std::string::npos;
  const bool centred = op.find("RMSNorm") == std::string::npos;
  const bool is_second_order = op.find("GradGrad") != std::string::npos;
  return ReadAttributes(context, {is_group_norm, centred, is_second_order}, attributes);
}

// The shapes that belong to a problem.
struct Shapes {
  tensorflow::TensorShape params;
  tensorflow::TensorShape statistics;
  tensorflow::TensorShape mask;
};

inline absl::Status MakeProblem(const NodeAttributes& attributes,
                                const tensorflow::TensorShape& x, NormProblem* problem,
                                Shapes* shapes) {
  NormShapes dims;
  const auto sizes = x.dim_sizes();
  TF_RETURN_IF_ERROR(ToTensorFlow(
      attributes.MakeProblem({sizes.begin(), sizes.end()}, problem, &dims)));
  shapes->params = tensorflow::TensorShape(dims.params);
  shapes->statistics = tensorflow::TensorShape(dims.statistics);
  shapes->mask = tensorflow::TensorShape(dims.mask);
  return absl::OkStatus();
}

inline absl::Status CheckShape(const char* name, const tensorflow::TensorShape& shape,
                               const tensorflow::TensorShape& expected) {
  if (shape == expected) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(name, " must have shape ",
                                                 expected.DebugString(), ", got ",
                                                 shape.DebugString()));
}

}  // namespace fusednorm
