#include "core/problem.h"

#include <cmath>
#include <string>

namespace fusednorm {
namespace {

std::string ToString(const std::vector<int64_t>& values) {
  std::string text = "[";
  for (size_t i = 0; i < values.size(); ++i) {
    if (i > 0) text += ", ";
    text += std::to_string(values[i]);
  }
  return text + "]";
}

int64_t Product(const std::vector<int64_t>& shape, int64_t begin, int64_t end) {
  int64_t product = 1;
  for (int64_t i = begin; i < end; ++i) product *= shape[i];
  return product;
}

// Gives each sample or each position of x its own parameters, if the options say so.
void SetParams(const std::vector<int64_t>& x, NormProblem* problem,
               NormShapes* shapes) {
  if (problem->per_position) shapes->params = x;
  if (!problem->has_gamma && !problem->has_beta) problem->per_position = false;
  if (!problem->per_sample) return;
  shapes->params.insert(shapes->params.begin(), x[0]);
  if (problem->has_gamma || problem->has_beta) problem->param_sets = x[0];
}

NormProblem WithOptions(const NormOptions& options) {
  NormProblem problem;
  static_cast<NormOptions&>(problem) = options;
  return problem;
}

}  // namespace

Status CheckOptions(const NormOptions& options) {
  if (!(std::isfinite(options.epsilon) && options.epsilon >= 0)) {
    return Status::InvalidArgument("epsilon must be a finite number >= 0, got " +
                                   std::to_string(options.epsilon));
  }
  if ((options.has_gamma || options.has_beta) && options.param != options.data &&
      options.param != ComputeType(options.data)) {
    return Status::InvalidArgument(std::string("gamma and beta must have dtype ") +
                                   Name(ComputeType(options.data)) +
                                   " or the dtype of x, " + Name(options.data) +
                                   ", got " + Name(options.param));
  }
  if (options.per_sample && options.per_position) {
    return Status::InvalidArgument(
        "per_sample and per_position must not both be true: gamma and beta either "
        "differ from sample to sample or from position to position");
  }
  return Status();
}

Status CheckSecondOrder(const NormOptions& options) {
  if (options.per_position || options.has_mask) {
    return Status::InvalidArgument(
        "per_position and mask must be absent for the second order");
  }
  if (options.activation == Activation::kNone) return Status();
  return Status::InvalidArgument(
      std::string("activation must be none for the second order, got ") +
      Name(options.activation));
}

Status ResolveChannelAxis(int64_t rank, int64_t axis, int64_t* resolved) {
  *resolved = axis < 0 ? axis + rank : axis;
  if (*resolved < 1 || *resolved >= rank) {
    return Status::InvalidArgument(
        "axis must name a channel axis, not the batch axis 0, of an input of rank " +
        std::to_string(rank) + ", got axis = " + std::to_string(axis));
  }
  return Status();
}

Status ResolveGroups(int64_t channels, int64_t groups, int64_t* resolved) {
  if (groups < 1 && groups != -1) {
    return Status::InvalidArgument(
        "groups must be a positive integer, or -1 for one group per channel, got " +
        std::to_string(groups));
  }
  *resolved = groups == -1 ? channels : groups;
  if (groups != -1 && channels % groups != 0) {
    return Status::InvalidArgument(
        "groups must divide the number of channels, got groups = " +
        std::to_string(groups) + " for " + std::to_string(channels) + " channels");
  }
  return Status();
}

Status ResolveAxes(int64_t rank, const std::vector<int64_t>& axes, bool per_sample,
                   int64_t* first) {
  if (axes.empty()) {
    return Status::InvalidArgument("axes must name at least one axis, got []");
  }
  for (size_t i = 0; i < axes.size(); ++i) {
    const int64_t axis = axes[i] < 0 ? axes[i] + rank : axes[i];
    if (axis < 0 || axis >= rank) {
      return Status::InvalidArgument("axes are out of range for an input of rank " +
                                     std::to_string(rank) + ", got " + ToString(axes));
    }
    if (i == 0) *first = axis;
    if (axis != *first + static_cast<int64_t>(i)) {
      return Status::InvalidArgument(
          "axes must be consecutive and increasing (transpose the input for any other "
          "list), got " +
          ToString(axes) + " for an input of rank " + std::to_string(rank));
    }
  }
  if (per_sample && *first == 0) {
    return Status::InvalidArgument(
        "axes must leave out the batch axis 0 where gamma and beta are given for each "
        "sample, got " +
        ToString(axes));
  }
  return Status();
}

Status MakeGroupNorm(const std::vector<int64_t>& shape, int64_t axis, int64_t groups,
                     const NormOptions& options, NormProblem* problem,
                     NormShapes* shapes) {
  FUSEDNORM_RETURN_IF_ERROR(CheckOptions(options));
  const int64_t rank = static_cast<int64_t>(shape.size());
  FUSEDNORM_RETURN_IF_ERROR(ResolveChannelAxis(rank, axis, &axis));
  const int64_t channels = shape[axis];
  FUSEDNORM_RETURN_IF_ERROR(ResolveGroups(channels, groups, &groups));
  *problem = WithOptions(options);
  problem->n = shape[0];
  problem->p = Product(shape, 1, axis);
  problem->g = groups;
  problem->k = groups == 0 ? 0 : channels / groups;
  problem->q = Product(shape, axis + 1, rank);
  shapes->params = {channels};
  problem->mask_n = problem->n;
  problem->mask_q = problem->q;
  shapes->statistics = {shape[0], groups};
  shapes->mask = shape;
  shapes->mask.erase(shapes->mask.begin() + axis);
  SetParams(shape, problem, shapes);
  return Status();
}

Status MakeAxesNorm(const std::vector<int64_t>& shape, const std::vector<int64_t>& axes,
                    bool centred, const NormOptions& options, NormProblem* problem,
                    NormShapes* shapes) {
  FUSEDNORM_RETURN_IF_ERROR(CheckOptions(options));
  const int64_t rank = static_cast<int64_t>(shape.size());
  if (options.has_mask) {
    return Status::InvalidArgument(
        "mask must be absent: only group_norm has statistics of several positions");
  }
  int64_t first = 0;
  FUSEDNORM_RETURN_IF_ERROR(ResolveAxes(rank, axes, options.per_sample, &first));
  const int64_t end = first + static_cast<int64_t>(axes.size());
  *problem = WithOptions(options);
  problem->centred = centred;
  problem->n = Product(shape, 0, first);
  problem->k = Product(shape, first, end);
  problem->q = Product(shape, end, rank);
  shapes->params.assign(shape.begin() + first, shape.begin() + end);
  shapes->statistics.assign(shape.begin(), shape.begin() + first);
  shapes->statistics.insert(shapes->statistics.end(), shape.begin() + end, shape.end());
  // If no axis follows, this is the same as a plain row.
  problem->reduces_q = problem->q == 1;
  SetParams(shape, problem, shapes);
  return Status();
}

}  // namespace fusednorm
