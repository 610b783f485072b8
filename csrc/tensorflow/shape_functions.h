// Static shapes of the ops: what is known of x, gamma, beta and residual is merged, and
// what is known to be wrong is refused while the graph is built.
#pragma once

#include "tensorflow/core/framework/shape_inference.h"

namespace fusednorm {

absl::Status GroupNormShape(tensorflow::shape_inference::InferenceContext* c);
absl::Status LayerNormShape(tensorflow::shape_inference::InferenceContext* c);
absl::Status RmsNormShape(tensorflow::shape_inference::InferenceContext* c);

// Of all gradient ops: dx like x, dgamma like gamma, dbeta like beta.
absl::Status NormGradShape(tensorflow::shape_inference::InferenceContext* c);

// Of all second-order ops: d_dy and d_x like x, d_gamma like gamma, the others like the
// statistics.
absl::Status NormGradGradShape(tensorflow::shape_inference::InferenceContext* c);

}  // namespace fusednorm
