// Static shapes of the ops: what is known of the inputs is merged, and what is known to
// be wrong is refused while the graph is built.
#pragma once

#include "core/signature.h"
#include "tensorflow/core/framework/shape_inference.h"

namespace fusednorm {

// Of the forward op of a norm.
absl::Status ForwardShape(tensorflow::shape_inference::InferenceContext* c,
                          const Norm& norm);

// Of its gradient, and of the gradient of that: each output has the shape of the inputs
// that are the same part of the problem.
template <class Buffers>
absl::Status GradientShape(tensorflow::shape_inference::InferenceContext* c,
                           const Norm& norm);

}  // namespace fusednorm
