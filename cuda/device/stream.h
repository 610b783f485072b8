// A CUDA stream, for code that includes no CUDA header.
#pragma once

struct CUstream_st;

namespace fusednorm {
namespace cuda {

using Stream = CUstream_st*;  // cudaStream_t

}  // namespace cuda
}  // namespace fusednorm
