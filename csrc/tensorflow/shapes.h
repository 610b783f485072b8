// A node's problem once the shape of x is known, for all kinds of kernels.
#pragma once

#include <cstdint>
#include <vector>

#include "tensorflow/attributes.h"
#include "tensorflow/core/framework/op_kernel.h"
#include "tensorflow/core/framework/tensor_shape.h"

namespace fusednorm {

// The attributes of the node that a kernel of a pass is made for.
template <class Buffers>
absl::Status ReadAttributes(tensorflow::OpKernelConstruction* context,
                            NodeAttributes* attributes) {
  for (const Norm& norm : kNorms) {
    if (context->def().op() == OpName<Buffers>(norm)) {
      return ReadAttributes<Buffers>(context, norm, attributes);
    }
  }
  return absl::InternalError(absl::StrCat("no kernel of ", Signature<Buffers>::kName,
                                          " is for ", context->def().op()));
}

// The shapes that belong to a problem.
struct Shapes {
  tensorflow::TensorShape data;
  tensorflow::TensorShape params;
  tensorflow::TensorShape statistics;
  tensorflow::TensorShape mask;

  const tensorflow::TensorShape& Of(Part part) const {
    return part == Part::kData     ? data
           : part == Part::kParams ? params
           : part == Part::kMask   ? mask
                                   : statistics;
  }
};

inline absl::Status MakeProblem(const NodeAttributes& attributes,
                                const tensorflow::TensorShape& x, NormProblem* problem,
                                Shapes* shapes) {
  NormShapes dims;
  const auto sizes = x.dim_sizes();
  TF_RETURN_IF_ERROR(ToTensorFlow(
      attributes.MakeProblem({sizes.begin(), sizes.end()}, problem, &dims)));
  shapes->data = x;
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
