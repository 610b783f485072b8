#include "cuda/backward.cuh"
#include "cuda/kernels.h"

namespace fusednorm {
namespace cuda {

Status BackwardFloat(const BackwardArgs& args, const Plan& plan, Stream stream) {
  return BackwardOf<float>(args, plan, stream);
}

}  // namespace cuda
}  // namespace fusednorm
