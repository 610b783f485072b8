// The functions that start kernels and decide nothing. Each is instantiated for a data
// type by cuda/instance.cu, in several objects that compile in parallel.
#pragma once

#include "core/status.h"
#include "cuda/device/stream.h"
#include "cuda/kernels/common/args.h"
#include "cuda/plan/plan.h"

namespace fusednorm {
namespace cuda {

// float32, float16 and bfloat16 have the instances float, Half and Bfloat16
// (number.cuh). Callers need only the names of these types.
struct Half;
struct Bfloat16;

namespace rows {
template <class T>
Status Start(const ForwardArgs& args, const Plan& plan, Stream stream);
template <class T>
Status Start(const BackwardArgs& args, const Plan& plan, Stream stream);
}  // namespace rows

namespace columns {
template <class T>
Status Start(const BackwardArgs& args, const Plan& plan, Stream stream);
// The second stage of dgamma and dbeta, which is the plan's last launch.
template <class T>
Status Start(const ParamSums& params, const Plan& plan, Stream stream);
}  // namespace columns

namespace stream {
template <class T>
Status Start(const ForwardArgs& args, const Plan& plan, Stream stream);
template <class T>
Status Start(const BackwardArgs& args, const Plan& plan, Stream stream);
}  // namespace stream

namespace tile {
template <class T>
Status Start(const ForwardArgs& args, const Plan& plan, Stream stream);
template <class T>
Status Start(const BackwardArgs& args, const Plan& plan, Stream stream);
}  // namespace tile

// Counts the positions that a mask leaves visible, as the plan's first launch.
namespace mask {
template <class T>
Status Start(const BackwardArgs& args, const Plan& plan, Stream stream);
}  // namespace mask

namespace second_order {
template <class T>
Status Start(const SecondOrderArgs& args, const Plan& plan, Stream stream);
}  // namespace second_order

}  // namespace cuda
}  // namespace fusednorm
