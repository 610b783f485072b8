// Chooses the instruction set at run time and calls its kernels.
#include <cstdlib>
#include <cstring>
#include <limits>
#include <memory>
#include <new>
#include <vector>

#include "core/param_sets.h"
#include "cpu/kernels.h"
#include "cpu/norm.h"

namespace fusednorm {
namespace cpu {

#define FUSEDNORM_DECLARE(isa)                    \
  extern const Kernels kKernels_##isa##_float;    \
  extern const Kernels kKernels_##isa##_half;     \
  extern const Kernels kKernels_##isa##_bfloat16; \
  extern const Kernels kKernels_##isa##_double;
FUSEDNORM_DECLARE(baseline)
FUSEDNORM_DECLARE(avx2)
FUSEDNORM_DECLARE(avx512)
#undef FUSEDNORM_DECLARE

namespace {

// In the order of the enumerators of DataType.
#define FUSEDNORM_KERNELS(isa)                                                  \
  {&kKernels_##isa##_float, &kKernels_##isa##_half, &kKernels_##isa##_bfloat16, \
   &kKernels_##isa##_double}

const Kernels& KernelsFor(Isa isa, DataType data) {
  static const Kernels* const kTable[][4] = {
      FUSEDNORM_KERNELS(baseline),
#if defined(FUSEDNORM_HAVE_AVX2)
      FUSEDNORM_KERNELS(avx2),
#endif
#if defined(FUSEDNORM_HAVE_AVX512)
      FUSEDNORM_KERNELS(avx512),
#endif
  };
  return *kTable[static_cast<int>(isa)][static_cast<int>(data)];
}

// Gives a kernel its workspace and runs it.
template <class Kernel, class Buffers>
Status Call(Kernel kernel, const Partition& partition, const NormProblem& problem,
            const Buffers& buffers, const ParallelFor& parallel) {
  const int64_t bytes = partition.workspace_bytes;
  const std::unique_ptr<double[]> workspace(new (std::nothrow) double[(bytes + 7) / 8]);
  if (workspace == nullptr) {
    return Status::OutOfMemory("no memory for a workspace of " + std::to_string(bytes) +
                               " bytes");
  }
  kernel(problem, partition, buffers, parallel,
         reinterpret_cast<char*>(workspace.get()));
  return Status();
}

// Runs everything on the calling thread.
class Serial : public ParallelFor {
 public:
  void Run(int64_t count, int64_t /*elements*/, Body body,
           void* context) const override {
    body(context, 0, count);
  }
};

// Runs a problem, which must not be empty, one set of parameters after the other. A
// small set is given to one thread, a large one to all threads. The results are the
// same.
template <class Kernel, class Buffers>
Status RunSets(Partition (*partition)(const NormProblem&), Kernel kernel,
               const NormProblem& whole, const Buffers& buffers,
               const ParallelFor& parallel) {
  constexpr int64_t kLarge = int64_t{1} << 20;
  const NormProblem problem = Merged(whole);
  if (problem.param_sets == 1) {
    return Call(kernel, partition(problem), problem, buffers, parallel);
  }
  const NormProblem one = OfOneSet(problem);
  const Partition of_one = partition(one);
  std::vector<Status> statuses(problem.param_sets);
  const auto run = [&](int64_t set, const ParallelFor& threads) {
    statuses[set] = Call(kernel, of_one, one, BuffersOf(one, set, buffers), threads);
  };
  if (one.num_elements() >= kLarge) {
    for (int64_t set = 0; set < problem.param_sets; ++set) run(set, parallel);
  } else {
    parallel.Each(problem.param_sets, one.num_elements(),
                  [&](int64_t set) { run(set, Serial()); });
  }
  for (const Status& status : statuses) FUSEDNORM_RETURN_IF_ERROR(status);
  return Status();
}

// Statistics of no elements are NaN, as in NumPy.
void FillWithNan(const NormProblem& problem, void* statistics) {
  if (statistics == nullptr) return;
  for (int64_t i = 0; i < problem.num_groups(); ++i) {
    if (problem.data == DataType::kDouble) {
      static_cast<double*>(statistics)[i] = std::numeric_limits<double>::quiet_NaN();
    } else {
      static_cast<float*>(statistics)[i] = std::numeric_limits<float>::quiet_NaN();
    }
  }
}

void FillWithZero(int64_t count, DataType type, void* gradients) {
  if (gradients == nullptr) return;
  std::memset(gradients, 0, count * SizeOf(type));
}

}  // namespace

const char* Name(Isa isa) {
  switch (isa) {
    case Isa::kBaseline:
      return "baseline";
    case Isa::kAvx2:
      return "avx2";
    case Isa::kAvx512:
      return "avx512";
  }
  return "unknown";
}

std::vector<Isa> UsableIsas() {
  std::vector<Isa> isas = {Isa::kBaseline};
#if defined(FUSEDNORM_HAVE_AVX2)
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
      __builtin_cpu_supports("f16c")) {
    isas.push_back(Isa::kAvx2);
  }
#endif
#if defined(FUSEDNORM_HAVE_AVX512)
  if (isas.back() == Isa::kAvx2 && __builtin_cpu_supports("avx512f") &&
      __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
      __builtin_cpu_supports("avx512dq")) {
    isas.push_back(Isa::kAvx512);
  }
#endif
  return isas;
}

Status IsaFromName(const std::string& name, Isa* isa) {
  std::string usable;
  for (const Isa candidate : UsableIsas()) {
    if (name == Name(candidate)) {
      *isa = candidate;
      return Status();
    }
    usable += (usable.empty() ? "" : ", ") + std::string(Name(candidate));
  }
  return Status::InvalidArgument("isa must be one of " + usable + " here, got " + name);
}

Isa DefaultIsa() {
  static const Isa isa = [] {
    Isa chosen = UsableIsas().back();
    if (const char* name = std::getenv("FUSEDNORM_ISA")) {
      // An unknown name, or a name that this machine cannot run, is no reason to fail a
      // training run. `info` shows what was chosen.
      Isa asked;
      if (IsaFromName(name, &asked).ok()) chosen = asked;
    }
    return chosen;
  }();
  return isa;
}

Status Forward(const NormProblem& problem, const ForwardBuffers& buffers,
               const ParallelFor& parallel, Isa isa) {
  if (problem.num_elements() == 0) {
    FillWithNan(problem, buffers.mean);
    FillWithNan(problem, buffers.rstd);
    return Status();
  }
  return RunSets(PartitionForward, KernelsFor(isa, problem.data).forward, problem,
                 buffers, parallel);
}

Status Backward(const NormProblem& problem, const BackwardBuffers& buffers,
                const ParallelFor& parallel, Isa isa) {
  if (problem.num_elements() == 0) {
    FillWithZero(problem.num_params(), problem.param, buffers.dgamma);
    FillWithZero(problem.num_params(), problem.param, buffers.dbeta);
    return Status();
  }
  return RunSets(PartitionBackward, KernelsFor(isa, problem.data).backward, problem,
                 buffers, parallel);
}

Status SecondOrder(const NormProblem& problem, const SecondOrderBuffers& buffers,
                   const ParallelFor& parallel, Isa isa) {
  FUSEDNORM_RETURN_IF_ERROR(CheckSecondOrder(problem));
  if (problem.num_elements() == 0) {
    const DataType compute = ComputeType(problem.data);
    FillWithZero(problem.num_params(), problem.param, buffers.d_gamma);
    FillWithZero(problem.num_groups(), compute, buffers.d_dmean);
    FillWithZero(problem.num_groups(), compute, buffers.d_drstd);
    return Status();
  }
  return RunSets(PartitionSecondOrder, KernelsFor(isa, problem.data).second_order,
                 problem, buffers, parallel);
}

}  // namespace cpu
}  // namespace fusednorm
