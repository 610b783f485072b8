// Plans of the `stream` scheme. It takes sets that do not fit a block, and problems for
// which only its general instances have code.
#pragma once

#include <vector>

#include "cuda/plan/planning.h"

namespace fusednorm {
namespace cuda {

// Adds the plans to the candidates, best first. There is at least one.
void AddStream(const Work& work, std::vector<Plan>* plans);

}  // namespace cuda
}  // namespace fusednorm
