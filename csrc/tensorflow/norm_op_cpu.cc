// The OpKernels on the CPU: TensorFlow's intra-op threads run the kernels.
#include <cstdint>

#include "core/parallel.h"
#include "cpu/run.h"
#include "tensorflow/norm_op.h"
#include "tensorflow/registration.h"

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

template <class Buffers>
class CpuNormOp : public NormOp<Buffers> {
 public:
  using NormOp<Buffers>::NormOp;

 private:
  Status Launch(OpKernelContext* context, const NormProblem& problem,
                const Buffers& buffers) const override {
    return cpu::Run(problem, buffers, IntraOpParallelFor(context));
  }
};

[[maybe_unused]] const bool registered =
    RegisterKernels<CpuNormOp>(tensorflow::DEVICE_CPU);

}  // namespace
}  // namespace fusednorm
