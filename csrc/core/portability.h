// What differs between the compilers and devices that use the shared headers.
#pragma once

// Headers are compiled for several instruction sets. Their functions must never be
// emitted as shared symbols, since the linker could keep the AVX-512 copy for all
// callers.
#if defined(__CUDACC__)
#define FUSEDNORM_INLINE __host__ __device__ __forceinline__
#else
#define FUSEDNORM_INLINE inline __attribute__((always_inline))
#endif

// For functions of these headers that are too large to be inlined at every call. They
// must be in an unnamed namespace, or be templates of a type in one, since others are
// shared symbols.
#define FUSEDNORM_CALL __attribute__((noinline))

// To be written after the parameters of a lambda that is the body of a hot loop. A
// single call that is not inlined, such as one for the tail, would force what the
// lambda captures into memory, and the loop would then read it from there for every
// vector.
#define FUSEDNORM_INLINE_LAMBDA __attribute__((always_inline))
