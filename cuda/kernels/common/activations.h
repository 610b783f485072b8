// The activations that are inlined into a loop over memory: the most common ones after
// a norm. A call inside the loop would have to save the registers that hold the
// tensors.
#pragma once

#include "core/activation.h"

namespace fusednorm {
namespace cuda {

constexpr bool IsInlined(Activation activation) {
  return activation == Activation::kNone || activation == Activation::kRelu ||
         activation == Activation::kLeakyRelu || activation == Activation::kSilu;
}

}  // namespace cuda
}  // namespace fusednorm
