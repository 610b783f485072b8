#include "cuda/kernels.h"
#include "cuda/second_order.cuh"

namespace fusednorm {
namespace cuda {

Status SecondOrderDouble(const SecondOrderArgs& args, const Plan& plan, Stream stream) {
  return SecondOrderOf<double>(args, plan, stream);
}

}  // namespace cuda
}  // namespace fusednorm
