#include "cuda/forward.cuh"
#include "cuda/kernels.h"

namespace fusednorm {
namespace cuda {

Status ForwardFloat(const ForwardArgs& args, const Plan& plan, Stream stream) {
  return ForwardOf<float>(args, plan, stream);
}

}  // namespace cuda
}  // namespace fusednorm
