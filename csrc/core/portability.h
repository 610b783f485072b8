// What differs between the compilers and devices that read the shared headers.
#pragma once

// Functions of headers that are compiled for several instruction sets must never be
// emitted as shared symbols: the linker could keep the AVX-512 copy for every caller.
#if defined(__CUDACC__)
#define FUSEDNORM_INLINE __host__ __device__ __forceinline__
#else
#define FUSEDNORM_INLINE inline __attribute__((always_inline))
#endif

// Functions of those headers that are too large to be inlined at every call. Only for
// what is in an unnamed namespace or a template of one, which is not shared either.
#define FUSEDNORM_CALL __attribute__((noinline))

// After the parameters of a lambda that is the body of a hot loop. One call of it that
// is not inlined, for a tail, would keep what it captures in memory, and the loop would
// read that from there for every vector.
#define FUSEDNORM_INLINE_LAMBDA __attribute__((always_inline))
