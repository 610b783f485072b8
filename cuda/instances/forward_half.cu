#include "cuda/forward.cuh"
#include "cuda/kernels.h"

namespace fusednorm {
namespace cuda {

Status ForwardHalf(const ForwardArgs& args, const Plan& plan, Stream stream) {
  return ForwardOf<Half>(args, plan, stream);
}

}  // namespace cuda
}  // namespace fusednorm
