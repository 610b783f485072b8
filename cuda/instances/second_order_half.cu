#include "cuda/kernels.h"
#include "cuda/second_order.cuh"

namespace fusednorm {
namespace cuda {

Status SecondOrderHalf(const SecondOrderArgs& args, const Plan& plan, Stream stream) {
  return SecondOrderOf<Half>(args, plan, stream);
}

}  // namespace cuda
}  // namespace fusednorm
