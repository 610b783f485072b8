// Plans of problems whose groups are contiguous rows (P = 1).
#pragma once

#include <vector>

#include "cuda/plan/planning.h"

namespace fusednorm {
namespace cuda {

// Each function adds its plans of the problem to the candidates, best first, or none.
// plan.cc calls them in the order of preference. `stream` takes all rows with a mask.
void AddRowsForward(const Work& work, std::vector<Plan>* plans);
void AddRowsBackward(const Work& work, std::vector<Plan>* plans);
void AddColumns(const Work& work, std::vector<Plan>* plans);

// Whether gamma and beta are as the specialised instances take them (instances.h).
bool HasPlainAffine(const Work& work);
// Whether dgamma or dbeta is wanted and is a sum over rows, for each element of a row.
bool SumsColumns(const Work& work);
// Whether each row has one gamma and beta. Their gradients are sums that dx needs, too.
bool ConstantRows(const NormProblem& problem);

// The number of teams that share the rows in backward, or the rows of one sample where
// samples have parameters of their own. If columns are summed, it is a multiple of G,
// so that all rows of a team are of one group.
int64_t SharesOfRows(const Work& work, int64_t teams);

}  // namespace cuda
}  // namespace fusednorm
