#include "cuda/backward.cuh"
#include "cuda/kernels.h"

namespace fusednorm {
namespace cuda {

Status BackwardHalf(const BackwardArgs& args, const Plan& plan, Stream stream) {
  return BackwardOf<Half>(args, plan, stream);
}

}  // namespace cuda
}  // namespace fusednorm
