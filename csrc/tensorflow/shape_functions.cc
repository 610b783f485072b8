#include "tensorflow/shape_functions.h"

#include <string>
#include <vector>

#include "tensorflow/attributes.h"

namespace fusednorm {
namespace {

using tensorflow::shape_inference::DimensionHandle;
using tensorflow::shape_inference::InferenceContext;
using tensorflow::shape_inference::ShapeHandle;

// The handles of a list input (0 or 1 of them).
absl::Status ListInput(InferenceContext* c, const char* name,
                       std::vector<ShapeHandle>* handles) {
  return c->input(name, handles);
}

// Merges `into` with the input called `name`, or says which input did not fit.
absl::Status MergeInput(InferenceContext* c, const char* name, ShapeHandle* into) {
  std::vector<ShapeHandle> handles;
  TF_RETURN_IF_ERROR(ListInput(c, name, &handles));
  for (const ShapeHandle handle : handles) {
    const ShapeHandle expected = *into;
    if (!c->Merge(expected, handle, into).ok()) {
      return absl::InvalidArgumentError(absl::StrCat(name, " must have shape ",
                                                     c->DebugString(expected), ", got ",
                                                     c->DebugString(handle)));
    }
  }
  return absl::OkStatus();
}

// Puts the batch axis of x before *params where they are given for each sample.
absl::Status AddSamples(InferenceContext* c, const NodeAttributes& attributes,
                        DimensionHandle samples, ShapeHandle* params) {
  if (!attributes.options.per_sample) return absl::OkStatus();
  return c->Concatenate(c->Vector(samples), *params, params);
}

// Takes it away again. What the parameters know of it, the first axes of x know then
// too.
absl::Status DropSamples(InferenceContext* c, const NodeAttributes& attributes,
                         ShapeHandle* params, ShapeHandle* outer) {
  if (!attributes.options.per_sample) return absl::OkStatus();
  if (c->RankKnown(*outer)) {
    TF_RETURN_IF_ERROR(c->ReplaceDim(*outer, 0, c->Dim(*params, 0), outer));
  }
  return c->Subshape(*params, 1, params);
}

// Merges the shapes of gamma and beta into *shape, which is that of x where they are
// given for each position.
absl::Status MergeParams(InferenceContext* c, const NodeAttributes& attributes,
                         bool per_position, ShapeHandle* shape) {
  if (per_position != attributes.options.per_position) return absl::OkStatus();
  TF_RETURN_IF_ERROR(MergeInput(c, "gamma", shape));
  if (attributes.centred) TF_RETURN_IF_ERROR(MergeInput(c, "beta", shape));
  return absl::OkStatus();
}

// Checks the shape of a mask against that of x, whose rank is known.
absl::Status CheckMask(InferenceContext* c, ShapeHandle x, int64_t axis) {
  ShapeHandle before, after;
  TF_RETURN_IF_ERROR(c->Subshape(x, 0, axis, &before));
  TF_RETURN_IF_ERROR(c->Subshape(x, axis + 1, &after));
  TF_RETURN_IF_ERROR(c->Concatenate(before, after, &before));
  return MergeInput(c, "mask", &before);
}

// Outputs y, sum, [mean,] rstd.
void SetOutputs(InferenceContext* c, const NodeAttributes& attributes, ShapeHandle x,
                ShapeHandle statistics) {
  int output = 0;
  c->set_output(output++, x);
  if (attributes.options.has_residual) c->set_output(output++, x);
  if (attributes.centred) c->set_output(output++, statistics);
  c->set_output(output++, statistics);
}

absl::Status AxesNormShape(InferenceContext* c, bool centred) {
  NodeAttributes attributes;
  TF_RETURN_IF_ERROR(
      ReadAttributes(c, {/*is_group_norm=*/false, centred}, &attributes));
  ShapeHandle x = c->input(0);
  TF_RETURN_IF_ERROR(MergeInput(c, "residual", &x));
  TF_RETURN_IF_ERROR(MergeParams(c, attributes, /*per_position=*/true, &x));
  const int64_t count = static_cast<int64_t>(attributes.axes.size());
  if (!c->RankKnown(x)) {
    ShapeHandle params = c->UnknownShapeOfRank(count);
    TF_RETURN_IF_ERROR(AddSamples(c, attributes, c->UnknownDim(), &params));
    TF_RETURN_IF_ERROR(MergeParams(c, attributes, /*per_position=*/false, &params));
    SetOutputs(c, attributes, x, c->UnknownShape());
    return absl::OkStatus();
  }
  int64_t first = 0;
  TF_RETURN_IF_ERROR(ToTensorFlow(
      ResolveAxes(c->Rank(x), attributes.axes, attributes.options.per_sample, &first)));
  ShapeHandle outer, params, inner;
  TF_RETURN_IF_ERROR(c->Subshape(x, 0, first, &outer));
  TF_RETURN_IF_ERROR(c->Subshape(x, first, first + count, &params));
  TF_RETURN_IF_ERROR(c->Subshape(x, first + count, &inner));
  TF_RETURN_IF_ERROR(AddSamples(c, attributes, c->Dim(x, 0), &params));
  TF_RETURN_IF_ERROR(MergeParams(c, attributes, /*per_position=*/false, &params));
  TF_RETURN_IF_ERROR(DropSamples(c, attributes, &params, &outer));
  ShapeHandle statistics;
  TF_RETURN_IF_ERROR(c->Concatenate(outer, inner, &statistics));
  TF_RETURN_IF_ERROR(c->Concatenate(outer, params, &x));
  TF_RETURN_IF_ERROR(c->Concatenate(x, inner, &x));
  SetOutputs(c, attributes, x, statistics);
  return absl::OkStatus();
}

}  // namespace

absl::Status GroupNormShape(InferenceContext* c) {
  NodeAttributes attributes;
  TF_RETURN_IF_ERROR(
      ReadAttributes(c, {/*is_group_norm=*/true, /*centred=*/true}, &attributes));
  ShapeHandle x = c->input(0);
  TF_RETURN_IF_ERROR(MergeInput(c, "residual", &x));
  TF_RETURN_IF_ERROR(MergeParams(c, attributes, /*per_position=*/true, &x));
  ShapeHandle params = c->Vector(InferenceContext::kUnknownDim);
  DimensionHandle batch = c->UnknownDim();
  int64_t axis = 0;
  if (c->RankKnown(x)) {
    TF_RETURN_IF_ERROR(
        ToTensorFlow(ResolveChannelAxis(c->Rank(x), attributes.axis, &axis)));
    TF_RETURN_IF_ERROR(CheckMask(c, x, axis));
    batch = c->Dim(x, 0);
    params = c->Vector(c->Dim(x, axis));
  }
  TF_RETURN_IF_ERROR(AddSamples(c, attributes, batch, &params));
  TF_RETURN_IF_ERROR(MergeParams(c, attributes, /*per_position=*/false, &params));
  TF_RETURN_IF_ERROR(DropSamples(c, attributes, &params, &x));
  if (c->RankKnown(x)) batch = c->Dim(x, 0);
  const DimensionHandle channels = c->Dim(params, 0);
  int64_t groups = attributes.groups;
  if (c->ValueKnown(channels)) {
    TF_RETURN_IF_ERROR(
        ToTensorFlow(ResolveGroups(c->Value(channels), groups, &groups)));
  }
  if (c->RankKnown(x)) TF_RETURN_IF_ERROR(c->ReplaceDim(x, axis, channels, &x));
  const DimensionHandle group_dim = groups == -1 ? channels : c->MakeDim(groups);
  SetOutputs(c, attributes, x, c->Matrix(batch, group_dim));
  return absl::OkStatus();
}

absl::Status LayerNormShape(InferenceContext* c) {
  return AxesNormShape(c, /*centred=*/true);
}

absl::Status RmsNormShape(InferenceContext* c) {
  return AxesNormShape(c, /*centred=*/false);
}

absl::Status NormGradShape(InferenceContext* c) {
  ShapeHandle x;
  TF_RETURN_IF_ERROR(c->Merge(c->input(0), c->input(1), &x));
  TF_RETURN_IF_ERROR(MergeInput(c, "dsum", &x));
  int output = 0;
  c->set_output(output++, x);
  std::vector<ShapeHandle> params, beta;
  TF_RETURN_IF_ERROR(ListInput(c, "gamma", &params));
  // RMSNormGrad has no beta.
  if (ListInput(c, "beta", &beta).ok()) {
    params.insert(params.end(), beta.begin(), beta.end());
  }
  for (const ShapeHandle param : params) c->set_output(output++, param);
  return absl::OkStatus();
}

absl::Status NormGradGradShape(InferenceContext* c) {
  ShapeHandle x = c->input(0);
  TF_RETURN_IF_ERROR(MergeInput(c, "x", &x));
  TF_RETURN_IF_ERROR(MergeInput(c, "ddx", &x));
  ShapeHandle params = c->UnknownShape(), statistics = c->UnknownShape();
  TF_RETURN_IF_ERROR(MergeInput(c, "gamma", &params));
  TF_RETURN_IF_ERROR(MergeInput(c, "ddgamma", &params));
  TF_RETURN_IF_ERROR(MergeInput(c, "rstd", &statistics));
  TF_RETURN_IF_ERROR(MergeInput(c, "drstd", &statistics));
  std::vector<ShapeHandle> gamma, mean;
  // RMSNormGradGrad has neither.
  const bool centred = ListInput(c, "mean", &mean).ok();
  if (centred) {
    TF_RETURN_IF_ERROR(MergeInput(c, "mean", &statistics));
    TF_RETURN_IF_ERROR(MergeInput(c, "ddbeta", &params));
  }
  TF_RETURN_IF_ERROR(ListInput(c, "gamma", &gamma));
  int output = 0;
  c->set_output(output++, x);
  c->set_output(output++, x);
  if (!gamma.empty()) c->set_output(output++, params);
  if (centred) c->set_output(output++, statistics);
  c->set_output(output++, statistics);
  return absl::OkStatus();
}

}  // namespace fusednorm
