// The kernels of one data type; instances/ has one file for each, so that they compile
// in parallel.
#pragma once

#include "core/status.h"
#include "cuda/args.h"
#include "cuda/norm.h"
#include "cuda/plan.h"

namespace fusednorm {
namespace cuda {

Status ForwardFloat(const ForwardArgs&, const Plan&, Stream);
Status ForwardHalf(const ForwardArgs&, const Plan&, Stream);
Status ForwardBfloat16(const ForwardArgs&, const Plan&, Stream);
Status ForwardDouble(const ForwardArgs&, const Plan&, Stream);
Status BackwardFloat(const BackwardArgs&, const Plan&, Stream);
Status BackwardHalf(const BackwardArgs&, const Plan&, Stream);
Status BackwardBfloat16(const BackwardArgs&, const Plan&, Stream);
Status BackwardDouble(const BackwardArgs&, const Plan&, Stream);
Status SecondOrderFloat(const SecondOrderArgs&, const Plan&, Stream);
Status SecondOrderHalf(const SecondOrderArgs&, const Plan&, Stream);
Status SecondOrderBfloat16(const SecondOrderArgs&, const Plan&, Stream);
Status SecondOrderDouble(const SecondOrderArgs&, const Plan&, Stream);

}  // namespace cuda
}  // namespace fusednorm
