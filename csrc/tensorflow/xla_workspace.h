// Device memory that kernels need between them. A handler may not allocate while XLA
// records it into a command buffer (a CUDA graph), which would go on to use what has
// been freed. The workspace is therefore one more output of the custom call, which XLA
// places with its own temporaries.
#pragma once

#include <cstdint>

#include "core/problem.h"

namespace fusednorm {

// Enough for the problem on every device of this process, however its buffers lie and
// whatever clusters run there: which device it will be is not known yet.
template <class Buffers>
int64_t WorkspaceBytes(const NormProblem& problem);

}  // namespace fusednorm
