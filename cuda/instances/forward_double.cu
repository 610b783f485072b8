#include "cuda/forward.cuh"
#include "cuda/kernels.h"

namespace fusednorm {
namespace cuda {

Status ForwardDouble(const ForwardArgs& args, const Plan& plan, Stream stream) {
  return ForwardOf<double>(args, plan, stream);
}

}  // namespace cuda
}  // namespace fusednorm
