#include "tensorflow/shape_functions.h"

#include <map>

#include "tensorflow/attributes.h"

namespace fusednorm {
namespace {

using tensorflow::shape_inference::DimensionHandle;
using tensorflow::shape_inference::InferenceContext;
using tensorflow::shape_inference::ShapeHandle;

// Merges *shape with those of a node's inputs that are `part` of the problem, or says
// which input did not fit.
template <class Buffers>
absl::Status MergeInputs(InferenceContext* c, const NodeAttributes& attributes,
                         Part part, ShapeHandle* shape) {
  int index = 0;
  for (const In<Buffers>& operand : Signature<Buffers>::kInputs) {
    if (!Has(attributes.options, attributes.norm.centred, operand.with)) continue;
    const ShapeHandle given = c->input(index++);
    const ShapeHandle expected = *shape;
    if (operand.part != part || c->Merge(expected, given, shape).ok()) continue;
    return absl::InvalidArgumentError(absl::StrCat(operand.name, " must have shape ",
                                                   c->DebugString(expected), ", got ",
                                                   c->DebugString(given)));
  }
  return absl::OkStatus();
}

// Sets the outputs; `shape_of` says what shape a part has.
template <class Buffers, class ShapeOf>
void SetOutputs(InferenceContext* c, const NodeAttributes& attributes,
                ShapeOf&& shape_of) {
  int index = 0;
  for (const Out<Buffers>& operand : Signature<Buffers>::kOutputs) {
    if (!Has(attributes.options, attributes.norm.centred, operand.with)) continue;
    c->set_output(index++, shape_of(operand.part));
  }
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
  return MergeInputs<ForwardBuffers>(c, attributes, Part::kParams, shape);
}

// Merges all inputs that have the shape of x into *x.
absl::Status MergeData(InferenceContext* c, const NodeAttributes& attributes,
                       ShapeHandle* x) {
  *x = c->UnknownShape();
  TF_RETURN_IF_ERROR(MergeInputs<ForwardBuffers>(c, attributes, Part::kData, x));
  return MergeParams(c, attributes, /*per_position=*/true, x);
}

// Checks the shape of a mask against that of x, whose rank is known.
absl::Status CheckMask(InferenceContext* c, const NodeAttributes& attributes,
                       ShapeHandle x, int64_t axis) {
  ShapeHandle before, after;
  TF_RETURN_IF_ERROR(c->Subshape(x, 0, axis, &before));
  TF_RETURN_IF_ERROR(c->Subshape(x, axis + 1, &after));
  TF_RETURN_IF_ERROR(c->Concatenate(before, after, &before));
  return MergeInputs<ForwardBuffers>(c, attributes, Part::kMask, &before);
}

void SetForwardOutputs(InferenceContext* c, const NodeAttributes& attributes,
                       ShapeHandle x, ShapeHandle statistics) {
  SetOutputs<ForwardBuffers>(c, attributes, [&](Part part) {
    return part == Part::kData         ? x
           : part == Part::kStatistics ? statistics
                                       : c->UnknownShape();
  });
}

absl::Status AxesNormShape(InferenceContext* c, const NodeAttributes& attributes) {
  ShapeHandle x;
  TF_RETURN_IF_ERROR(MergeData(c, attributes, &x));
  const int64_t count = static_cast<int64_t>(attributes.axes.size());
  if (!c->RankKnown(x)) {
    ShapeHandle params = c->UnknownShapeOfRank(count);
    TF_RETURN_IF_ERROR(AddSamples(c, attributes, c->UnknownDim(), &params));
    TF_RETURN_IF_ERROR(MergeParams(c, attributes, /*per_position=*/false, &params));
    SetForwardOutputs(c, attributes, x, c->UnknownShape());
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
  SetForwardOutputs(c, attributes, x, statistics);
  return absl::OkStatus();
}

absl::Status GroupNormShape(InferenceContext* c, const NodeAttributes& attributes) {
  ShapeHandle x;
  TF_RETURN_IF_ERROR(MergeData(c, attributes, &x));
  ShapeHandle params = c->Vector(InferenceContext::kUnknownDim);
  DimensionHandle batch = c->UnknownDim();
  int64_t axis = 0;
  if (c->RankKnown(x)) {
    TF_RETURN_IF_ERROR(
        ToTensorFlow(ResolveChannelAxis(c->Rank(x), attributes.axis, &axis)));
    TF_RETURN_IF_ERROR(CheckMask(c, attributes, x, axis));
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
  SetForwardOutputs(c, attributes, x, c->Matrix(batch, group_dim));
  return absl::OkStatus();
}

}  // namespace

absl::Status ForwardShape(InferenceContext* c, const Norm& norm) {
  NodeAttributes attributes;
  TF_RETURN_IF_ERROR(ReadAttributes<ForwardBuffers>(c, norm, &attributes));
  return norm.is_group_norm ? GroupNormShape(c, attributes)
                            : AxesNormShape(c, attributes);
}

template <class Buffers>
absl::Status GradientShape(InferenceContext* c, const Norm& norm) {
  NodeAttributes attributes;
  TF_RETURN_IF_ERROR(ReadAttributes<Buffers>(c, norm, &attributes));
  std::map<Part, ShapeHandle> shapes;
  for (const Part part : {Part::kData, Part::kParams, Part::kStatistics}) {
    shapes[part] = c->UnknownShape();
    TF_RETURN_IF_ERROR(MergeInputs<Buffers>(c, attributes, part, &shapes[part]));
  }
  SetOutputs<Buffers>(c, attributes, [&](Part part) { return shapes[part]; });
  return absl::OkStatus();
}

template absl::Status GradientShape<BackwardBuffers>(InferenceContext*, const Norm&);
template absl::Status GradientShape<SecondOrderBuffers>(InferenceContext*, const Norm&);

}  // namespace fusednorm
