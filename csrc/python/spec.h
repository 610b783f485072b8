// How a call from Python says which norm it wants, on whatever device.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "core/problem.h"
#include "python/errors.h"

namespace fusednorm {

struct Spec {
  std::string op;
  std::vector<int64_t> axes;
  int64_t groups;
  double epsilon;
  std::string activation;
  bool zero_centered;
  bool per_sample;
  bool per_position = false;
};

// What the problem has to know of the arrays.
struct Operands {
  Shape shape;  // of x
  DataType data;
  std::optional<DataType> gamma;
  std::optional<DataType> beta;
  bool has_residual;
  bool has_mask = false;
};

struct Resolved {
  NormProblem problem;
  Shape params;
  Shape statistics;
  Shape mask;
};

// Throws what Python is to see.
Resolved Resolve(const Spec& spec, const Operands& operands);
// So do these.
void CheckMean(const NormProblem& problem, bool has_mean);
void CheckSecondOrderArguments(const std::string& op, bool gamma, bool ddgamma,
                               bool ddbeta);

}  // namespace fusednorm
