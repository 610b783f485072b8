// What differs between the compilers and devices that read the shared headers.
#pragma once

// Functions of headers that are compiled for several instruction sets must never be
// emitted as shared symbols: the linker could keep the AVX-512 copy for every caller.
#if defined(__CUDACC__)
#define FUSEDNORM_INLINE __host__ __device__ __forceinline__
#else
#define FUSEDNORM_INLINE inline __attribute__((always_inline))
#endif
