// The OpKernels on the CPU: TensorFlow's intra-op threads run the kernels.
#include <cstdint>

#include "core/parallel.h"
#include "cpu/norm.h"
#include "tensorflow/norm_op.h"

namespace fusednorm {
namespace {

using tensorflow::OpKernelContext;

// The op's share of TensorFlow's intra-op threads.
class IntraOpParallelFor : public ParallelFor {
 public:
  explicit IntraOpParallelFor(OpKernelContext* context)
      : pool_(context->device()->tensorflow_cpu_worker_threads()->workers) {}

  void Run(int64_t count, int64_t elements, Body body, void* context) const override {
    constexpr int64_t kCyclesPerElement = 2;
    if (count <= 1 || count * elements < kWorthAThread) return body(context, 0, count);
    using Pool = tensorflow::thread::ThreadPool;
    pool_->ParallelFor(count,
                       Pool::SchedulingParams::Adaptive(elements * kCyclesPerElement),
                       [=](int64_t begin, int64_t end) { body(context, begin, end); });
  }

 private:
  tensorflow::thread::ThreadPool* const pool_;
};

class CpuNormOp : public NormOp {
 public:
  using NormOp::NormOp;

 private:
  Status Launch(OpKernelContext* context, const NormProblem& problem,
                const ForwardBuffers& buffers) const override {
    return cpu::Forward(problem, buffers, IntraOpParallelFor(context));
  }
};

class CpuNormGradOp : public NormGradOp {
 public:
  using NormGradOp::NormGradOp;

 private:
  Status Launch(OpKernelContext* context, const NormProblem& problem,
                const BackwardBuffers& buffers) const override {
    return cpu::Backward(problem, buffers, IntraOpParallelFor(context));
  }
};

class CpuNormGradGradOp : public NormGradGradOp {
 public:
  using NormGradGradOp::NormGradGradOp;

 private:
  Status Launch(OpKernelContext* context, const NormProblem& problem,
                const SecondOrderBuffers& buffers) const override {
    return cpu::SecondOrder(problem, buffers, IntraOpParallelFor(context));
  }
};

FUSEDNORM_REGISTER_NORM_OPS(tensorflow::DEVICE_CPU, CpuNormOp, CpuNormGradOp,
                            CpuNormGradGradOp);

}  // namespace
}  // namespace fusednorm
