// Plans of problems whose groups are contiguous rows (P = 1).
#pragma once

#include <vector>

#include "cuda/plan/planning.h"

namespace fusednorm {
namespace cuda {

// Each adds its plans of the problem to the candidates, best first, or none. plan.cc
// calls them in the order of preference. Rows with a mask are always split.
void AddRowsForward(const Work& work, std::vector<Plan>* plans);
void AddRowsBackward(const Work& work, std::vector<Plan>* plans);
void AddColumns(const Work& work, std::vector<Plan>* plans);

// What the specialised instances take (instances.h), but for the width of accesses.
bool HasPlainAffine(const Work& work);
// dgamma and dbeta are wanted, and each is a sum over rows of one number an element.
bool SumsColumns(const Work& work);
// Each row has one gamma and beta, whose gradients are sums that are needed anyway.
bool ConstantRows(const NormProblem& problem);

// How many teams share rows in backward, those of each sample where it has parameters
// of its own. A team keeps to rows of one group where it sums columns: there is a
// multiple of G of them.
int64_t SharesOfRows(const Work& work, int64_t teams);

}  // namespace cuda
}  // namespace fusednorm
