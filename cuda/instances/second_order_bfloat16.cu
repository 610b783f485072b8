#include "cuda/kernels.h"
#include "cuda/second_order.cuh"

namespace fusednorm {
namespace cuda {

Status SecondOrderBfloat16(const SecondOrderArgs& args, const Plan& plan,
                           Stream stream) {
  return SecondOrderOf<Bfloat16>(args, plan, stream);
}

}  // namespace cuda
}  // namespace fusednorm
