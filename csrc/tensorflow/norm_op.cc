#include "tensorflow/norm_op.h"

#include <iterator>

#include "core/signature.h"
#include "tensorflow/core/framework/tensor.h"
#include "tensorflow/shapes.h"

namespace fusednorm {
namespace {

using tensorflow::OpKernelConstruction;
using tensorflow::OpKernelContext;
using tensorflow::Tensor;

constexpr int kAbsent = -1;

// Where x is among a node's inputs: all before it are always there.
template <class Buffers>
constexpr int IndexOfX() {
  int index = 0;
  while (Signature<Buffers>::kInputs[index].buffer != &Buffers::x) ++index;
  return index;
}

// The inputs that an output may take the memory of, by their indices.
template <class Buffers>
struct Candidates {
  int indices[Out<Buffers>::kMostReuses];
  size_t count = 0;

  // `input_indices`: those of the operands, or kAbsent.
  Candidates(const Out<Buffers>& output, const int* input_indices) {
    const auto& inputs = Signature<Buffers>::kInputs;
    for (const auto reused : output.reuses) {
      for (size_t i = 0; i < std::size(inputs); ++i) {
        const bool is_there = input_indices[i] != kAbsent;
        if (is_there && inputs[i].buffer == reused) indices[count++] = input_indices[i];
      }
    }
  }
};

}  // namespace

template <class Buffers>
NormOp<Buffers>::NormOp(OpKernelConstruction* context) : OpKernel(context) {
  OP_REQUIRES_OK(context, ReadAttributes<Buffers>(context, &attributes_));
}

template <class Buffers>
void NormOp<Buffers>::Compute(OpKernelContext* context) {
  OP_REQUIRES_OK(context, Run(context));
}

template <class Buffers>
absl::Status NormOp<Buffers>::Run(OpKernelContext* context) const {
  const auto& inputs = Signature<Buffers>::kInputs;
  NormProblem problem;
  Shapes shapes;
  TF_RETURN_IF_ERROR(MakeProblem(
      attributes_, context->input(IndexOfX<Buffers>()).shape(), &problem, &shapes));
  Buffers buffers;
  int indices[std::size(Signature<Buffers>::kInputs)];
  int index = 0;
  for (size_t i = 0; i < std::size(inputs); ++i) {
    const In<Buffers>& operand = inputs[i];
    indices[i] = kAbsent;
    if (!Has(problem, problem.centred, operand.with)) continue;
    const Tensor& tensor = context->input(index);
    TF_RETURN_IF_ERROR(
        CheckShape(operand.name, tensor.shape(), shapes.Of(operand.part)));
    buffers.*operand.buffer = tensor.data();
    indices[i] = index++;
  }
  index = 0;
  for (const Out<Buffers>& operand : Signature<Buffers>::kOutputs) {
    if (!Has(problem, problem.centred, operand.with)) continue;
    const Candidates<Buffers> candidates(operand, indices);
    Tensor* tensor = nullptr;
    TF_RETURN_IF_ERROR(context->forward_input_or_allocate_output(
        {candidates.indices, candidates.count}, index++, shapes.Of(operand.part),
        &tensor));
    buffers.*operand.buffer = tensor->data();
  }
  return ToTensorFlow(Launch(context, problem, buffers));
}

template class NormOp<ForwardBuffers>;
template class NormOp<BackwardBuffers>;
template class NormOp<SecondOrderBuffers>;

}  // namespace fusednorm
