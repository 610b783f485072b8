// A NormProblem as the attributes of a custom call, which handlers read back. The HLO
// shows them.
#pragma once

#include <string>

#include "core/problem.h"

namespace fusednorm {

// MLIR's text of a dictionary attribute: {n = 2 : i64, centred = true, ...}.
std::string ToAttributes(const NormProblem& problem);

}  // namespace fusednorm
