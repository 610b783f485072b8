// The OpKernels but for their last step: they check what only running shows, allocate
// the outputs and find the buffers, as the pass's Signature says. A device derives from
// them and says in Launch how it computes.
#pragma once

#include "core/problem.h"
#include "core/status.h"
#include "tensorflow/attributes.h"
#include "tensorflow/core/framework/op_kernel.h"

namespace fusednorm {

// One pass of all norms.
template <class Buffers>
class NormOp : public tensorflow::OpKernel {
 public:
  explicit NormOp(tensorflow::OpKernelConstruction* context);
  void Compute(tensorflow::OpKernelContext* context) final;

 private:
  absl::Status Run(tensorflow::OpKernelContext* context) const;
  virtual Status Launch(tensorflow::OpKernelContext* context,
                        const NormProblem& problem, const Buffers& buffers) const = 0;

  NodeAttributes attributes_;
};

}  // namespace fusednorm
