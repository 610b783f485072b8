#include "cuda/backward.cuh"
#include "cuda/kernels.h"

namespace fusednorm {
namespace cuda {

Status BackwardDouble(const BackwardArgs& args, const Plan& plan, Stream stream) {
  return BackwardOf<double>(args, plan, stream);
}

}  // namespace cuda
}  // namespace fusednorm
