// How a call from Python says which norm it wants, on whatever device.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/problem.h"
#include "core/signature.h"
#include "python/errors.h"

namespace fusednorm {

struct Spec {
  std::string op;
  std::vector<int64_t> axes;
  int64_t groups;
  double epsilon;
  std::string activation = "none";
  bool zero_centered;
  bool per_sample;
  bool per_position = false;
};

struct Resolved {
  NormProblem problem;
  Shape data;  // of x
  Shape params;
  Shape statistics;
  Shape mask;

  const Shape& ShapeOf(Part part) const {
    return part == Part::kData     ? data
           : part == Part::kParams ? params
           : part == Part::kMask   ? mask
                                   : statistics;
  }
  std::string TypeNameOf(Part part) const {
    return part == Part::kMask ? "bool" : Name(TypeOf(problem, part));
  }
};

// Both throw what Python is to see.
const Norm& NormOf(const std::string& op);
// Of x of this shape. The options say which types and operands there are; the spec has
// the others.
Resolved Resolve(const Spec& spec, const Shape& x, NormOptions options);

}  // namespace fusednorm
