#include "cuda/kernels.h"
#include "cuda/second_order.cuh"

namespace fusednorm {
namespace cuda {

Status SecondOrderFloat(const SecondOrderArgs& args, const Plan& plan, Stream stream) {
  return SecondOrderOf<float>(args, plan, stream);
}

}  // namespace cuda
}  // namespace fusednorm
