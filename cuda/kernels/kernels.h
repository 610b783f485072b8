// How kernels are started: nothing is decided here. Each function is instantiated for a
// data type by cuda/instance.cu, in several objects, so that they compile in parallel.
#pragma once

#include "core/status.h"
#include "cuda/device/stream.h"
#include "cuda/kernels/common/args.h"
#include "cuda/plan/plan.h"

namespace fusednorm {
namespace cuda {

// The instances in float32 and the 16-bit types are of T = float, Half and Bfloat16
// (number.cuh), of which callers need no more than the names.
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
// The second stage of dgamma and dbeta, as the plan's last launch.
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

// Counts what a mask leaves, as the plan's first launch.
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
