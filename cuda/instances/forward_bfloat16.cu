#include "cuda/forward.cuh"
#include "cuda/kernels.h"

namespace fusednorm {
namespace cuda {

Status ForwardBfloat16(const ForwardArgs& args, const Plan& plan, Stream stream) {
  return ForwardOf<Bfloat16>(args, plan, stream);
}

}  // namespace cuda
}  // namespace fusednorm
