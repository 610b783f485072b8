// The plans of problems whose groups lie across rows: interleaved groups and columns.
#pragma once

#include "cuda/planning.h"

namespace fusednorm {
namespace cuda {

void PlanTile(const Work& work, Plan* plan);

}  // namespace cuda
}  // namespace fusednorm
