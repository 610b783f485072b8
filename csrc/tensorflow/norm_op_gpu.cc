// The OpKernels on CUDA devices: on the op's stream, with TensorFlow's memory. Plain
// C++, nothing for nvcc.
#if defined(FUSEDNORM_WITH_CUDA)

#define EIGEN_USE_GPU
#define GOOGLE_CUDA 1

// Before TensorFlow, some of whose headers need it without including it.
#include <cuda_runtime.h>

#include <cstdint>
#include <string>

#include "cuda/api/enqueue.h"
#include "tensorflow/core/framework/tensor.h"
#include "tensorflow/norm_op.h"
#include "tensorflow/registration.h"
#include "unsupported/Eigen/CXX11/Tensor"

namespace fusednorm {
namespace {

using tensorflow::OpKernelContext;

template <class Buffers>
class GpuNormOp : public NormOp<Buffers> {
 public:
  using NormOp<Buffers>::NormOp;

 private:
  // TensorFlow has made the op's device the current one. Its allocator hands memory of
  // a finished op only to work that is enqueued later on the same stream, so that the
  // workspace may be let go of as soon as the kernels are enqueued.
  Status Launch(OpKernelContext* context, const NormProblem& problem,
                const Buffers& buffers) const override {
    tensorflow::Tensor workspace;
    const auto allocate = [&](int64_t bytes, void** data) {
      const absl::Status status = context->allocate_temp(
          tensorflow::DT_INT8, tensorflow::TensorShape({bytes}), &workspace);
      *data = status.ok() ? workspace.data() : nullptr;
      return status.ok() ? Status()
                         : Status::OutOfMemory(std::string(status.message()));
    };
    return cuda::Enqueue(problem, buffers, allocate,
                         context->eigen_device<Eigen::GpuDevice>().stream());
  }
};

[[maybe_unused]] const bool registered =
    RegisterKernels<GpuNormOp>(tensorflow::DEVICE_GPU);

}  // namespace
}  // namespace fusednorm

#endif  // FUSEDNORM_WITH_CUDA
