// The ops' interfaces. Kernels are in norm_op*.cc.
#include <string>

#include "tensorflow/core/framework/op.h"
#include "tensorflow/shape_functions.h"

namespace fusednorm {
namespace {

// What all ops have in common. A list of length 0 stands for an absent input.
#define FUSEDNORM_COMMON_ATTRIBUTES                          \
  Attr("T: {half, bfloat16, float, double}")                 \
      .Attr("U: {half, bfloat16, float, double} = DT_FLOAT") \
      .Attr("S: {float, double} = DT_FLOAT")                 \
      .Attr("num_gamma: int >= 0")                           \
      .Attr("epsilon: float = 0.001")                        \
      .Attr("epsilon_low: float = 0.0")                      \
      .Attr("zero_centered: bool = false")                   \
      .Attr("per_sample: bool = false")

// The same of the norms and their gradients.
#define FUSEDNORM_NORM_ATTRIBUTES                                                    \
  Attr("num_residual: int >= 0")                                                     \
      .Attr(                                                                         \
          "activation: {'none', 'relu', 'leaky_relu', 'silu', 'gelu', 'gelu_tanh', " \
          "'tanh', 'sigmoid'} = 'none'")                                             \
      .Attr("per_position: bool = false")                                            \
      .FUSEDNORM_COMMON_ATTRIBUTES

// Inputs and outputs of the norms with a mean and a beta.
#define FUSEDNORM_CENTRED_FORWARD          \
  Input("x: T")                            \
      .Input("gamma: num_gamma * U")       \
      .Input("beta: num_beta * U")         \
      .Input("residual: num_residual * T") \
      .Output("y: T")                      \
      .Output("sum: num_residual * T")     \
      .Output("mean: S")                   \
      .Output("rstd: S")                   \
      .Attr("num_beta: int >= 0")

#define FUSEDNORM_CENTRED_BACKWARD     \
  Input("dy: T")                       \
      .Input("x: T")                   \
      .Input("mean: S")                \
      .Input("rstd: S")                \
      .Input("gamma: num_gamma * U")   \
      .Input("beta: num_beta * U")     \
      .Input("dsum: num_residual * T") \
      .Input("dmean: S")               \
      .Input("drstd: S")               \
      .Output("dx: T")                 \
      .Output("dgamma: num_gamma * U") \
      .Output("dbeta: num_beta * U")   \
      .Attr("num_beta: int >= 0")

// After all other inputs. With a default, which SavedModels from before masks rely on.
#define FUSEDNORM_MASK Input("mask: num_mask * bool").Attr("num_mask: int >= 0 = 0")

#define FUSEDNORM_CENTRED_SECOND_ORDER   \
  Input("dy: T")                         \
      .Input("x: T")                     \
      .Input("mean: S")                  \
      .Input("rstd: S")                  \
      .Input("gamma: num_gamma * U")     \
      .Input("drstd: S")                 \
      .Input("ddx: T")                   \
      .Input("ddgamma: num_ddgamma * U") \
      .Input("ddbeta: num_ddbeta * U")   \
      .Output("d_dy: T")                 \
      .Output("d_x: T")                  \
      .Output("d_gamma: num_gamma * U")  \
      .Output("d_dmean: S")              \
      .Output("d_drstd: S")              \
      .Attr("num_ddgamma: int >= 0")     \
      .Attr("num_ddbeta: int >= 0")

constexpr char kDocOfCommonAttributes[] = R"doc(
T: type of the data; arithmetic is in S.
U: type of gamma and beta: S or T.
S: type of the statistics: double for T double, else float.
epsilon: added to the variance (mean square); >= 0.
epsilon_low: added to epsilon, so that double problems see an epsilon that float rounds.
activation: applied to the result.
zero_centered: multiply by 1 + gamma instead of gamma.
per_sample: gamma and beta have axis 0 of x before their other axes.
per_position: gamma and beta have the shape of x. Not of gradients of gradients.
)doc";

REGISTER_OP("Fusednorm>GroupNorm")
    .FUSEDNORM_CENTRED_FORWARD.FUSEDNORM_MASK.Attr("groups: int")
    .Attr("axis: int = -1")
    .FUSEDNORM_NORM_ATTRIBUTES.SetShapeFn(GroupNormShape)
    .Doc(std::string(R"doc(
y = activation((s - mean) * rstd * gamma + beta), s = x + residual, mean and
rstd = 1 / sqrt(variance + epsilon) over each sample and group of channels.

x: [N, ..., C at axis, ...], rank >= 2.
gamma: none, or one of shape [C].
beta: none, or one of shape [C].
residual: none, or one like x.
mask: none, or one of the shape of x without the channel axis: the statistics are of
  the positions where it is true.
y: like x.
sum: s, if there is a residual.
mean: [N, groups].
rstd: [N, groups].
groups: divides C; -1 for one group per channel (InstanceNorm).
axis: the channel axis, not 0.
)doc") + kDocOfCommonAttributes);

REGISTER_OP("Fusednorm>LayerNorm")
    .FUSEDNORM_CENTRED_FORWARD.Attr("axes: list(int)")
    .FUSEDNORM_NORM_ATTRIBUTES.SetShapeFn(LayerNormShape)
    .Doc(std::string(R"doc(
y = activation((s - mean) * rstd * gamma + beta), s = x + residual, mean and
rstd = 1 / sqrt(variance + epsilon) over the axes.

gamma: none, or one of the shape of x's axes.
beta: none, or one of the shape of x's axes.
residual: none, or one like x.
y: like x.
sum: s, if there is a residual.
mean: the shape of x without the axes.
rstd: the shape of x without the axes.
axes: consecutive axes in increasing order.
)doc") + kDocOfCommonAttributes);

REGISTER_OP("Fusednorm>RMSNorm")
    .Input("x: T")
    .Input("gamma: num_gamma * U")
    .Input("residual: num_residual * T")
    .Output("y: T")
    .Output("sum: num_residual * T")
    .Output("rstd: S")
    .Attr("axes: list(int)")
    .FUSEDNORM_NORM_ATTRIBUTES.SetShapeFn(RmsNormShape)
    .Doc(std::string(R"doc(
y = activation(s * rstd * gamma), s = x + residual,
rstd = 1 / sqrt(mean(s^2) + epsilon) over the axes.

gamma: none, or one of the shape of x's axes.
residual: none, or one like x.
y: like x.
sum: s, if there is a residual.
rstd: the shape of x without the axes.
axes: consecutive axes in increasing order.
)doc") + kDocOfCommonAttributes);

constexpr char kDocOfGradients[] = R"doc(
dy: gradient of y.
x: the input of the norm: x, or sum where there was a residual.
dsum: gradient of sum.
drstd: gradient of rstd.
dx: gradient of x, and of the residual.
dgamma: gradient of gamma.
)doc";

REGISTER_OP("Fusednorm>GroupNormGrad")
    .FUSEDNORM_CENTRED_BACKWARD.FUSEDNORM_MASK.Attr("groups: int")
    .Attr("axis: int = -1")
    .FUSEDNORM_NORM_ATTRIBUTES.SetShapeFn(NormGradShape)
    .Doc(std::string("Gradient of GroupNorm; attributes as there.\n") +
         kDocOfGradients);

REGISTER_OP("Fusednorm>LayerNormGrad")
    .FUSEDNORM_CENTRED_BACKWARD.Attr("axes: list(int)")
    .FUSEDNORM_NORM_ATTRIBUTES.SetShapeFn(NormGradShape)
    .Doc(std::string("Gradient of LayerNorm; attributes as there.\n") +
         kDocOfGradients);

REGISTER_OP("Fusednorm>RMSNormGrad")
    .Input("dy: T")
    .Input("x: T")
    .Input("rstd: S")
    .Input("gamma: num_gamma * U")
    .Input("dsum: num_residual * T")
    .Input("drstd: S")
    .Output("dx: T")
    .Output("dgamma: num_gamma * U")
    .Attr("axes: list(int)")
    .FUSEDNORM_NORM_ATTRIBUTES.SetShapeFn(NormGradShape)
    .Doc(std::string("Gradient of RMSNorm; attributes as there.\n") + kDocOfGradients);

constexpr char kDocOfSecondOrder[] = R"doc(
dy: as the gradient was given it, like the inputs before ddx.
ddx: gradient of dx.
ddgamma: none, or the gradient of dgamma.
d_dy: gradient of dy.
d_x: gradient of x, through mean and rstd as well.
d_gamma: gradient of gamma.
d_drstd: gradient of drstd. That of dsum is ddx.
)doc";

REGISTER_OP("Fusednorm>GroupNormGradGrad")
    .FUSEDNORM_CENTRED_SECOND_ORDER.Attr("groups: int")
    .Attr("axis: int = -1")
    .FUSEDNORM_COMMON_ATTRIBUTES.SetShapeFn(NormGradGradShape)
    .Doc(std::string("Gradient of GroupNormGrad without activation; attributes as "
                     "there.\n") +
         kDocOfSecondOrder);

REGISTER_OP("Fusednorm>LayerNormGradGrad")
    .FUSEDNORM_CENTRED_SECOND_ORDER.Attr("axes: list(int)")
    .FUSEDNORM_COMMON_ATTRIBUTES.SetShapeFn(NormGradGradShape)
    .Doc(std::string("Gradient of LayerNormGrad without activation; attributes as "
                     "there.\n") +
         kDocOfSecondOrder);

REGISTER_OP("Fusednorm>RMSNormGradGrad")
    .Input("dy: T")
    .Input("x: T")
    .Input("rstd: S")
    .Input("gamma: num_gamma * U")
    .Input("drstd: S")
    .Input("ddx: T")
    .Input("ddgamma: num_ddgamma * U")
    .Output("d_dy: T")
    .Output("d_x: T")
    .Output("d_gamma: num_gamma * U")
    .Output("d_drstd: S")
    .Attr("num_ddgamma: int >= 0")
    .Attr("axes: list(int)")
    .FUSEDNORM_COMMON_ATTRIBUTES.SetShapeFn(NormGradGradShape)
    .Doc(std::string("Gradient of RMSNormGrad without activation; attributes as "
                     "there.\n") +
         kDocOfSecondOrder);

}  // namespace
}  // namespace fusednorm
