// Plans of the `tile` scheme: sets that fit the registers of a block or of a cluster.
#pragma once

#include <vector>

#include "cuda/plan/planning.h"

namespace fusednorm {
namespace cuda {

// Adds the plans to the candidates, best first. There is none where a set is too large,
// or where the problem needs a general instance, which only `stream` has.
void AddTile(const Work& work, std::vector<Plan>* plans);

}  // namespace cuda
}  // namespace fusednorm
