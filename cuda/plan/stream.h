// Plans of the `stream` scheme: whatever fits no block, and what only its general
// instances take.
#pragma once

#include <vector>

#include "cuda/plan/planning.h"

namespace fusednorm {
namespace cuda {

// Adds the plans to the candidates, best first. There is always one.
void AddStream(const Work& work, std::vector<Plan>* plans);

}  // namespace cuda
}  // namespace fusednorm
