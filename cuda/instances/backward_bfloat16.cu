#include "cuda/backward.cuh"
#include "cuda/kernels.h"

namespace fusednorm {
namespace cuda {

Status BackwardBfloat16(const BackwardArgs& args, const Plan& plan, Stream stream) {
  return BackwardOf<Bfloat16>(args, plan, stream);
}

}  // namespace cuda
}  // namespace fusednorm
