// What kernels use of CUDA beyond C++: thread indices, barriers, shuffles, shared
// memory, 16-byte accesses. Kernels call nothing else, so that the same source also
// runs on the CPU, under the thread model of tests/emulation/.
#pragma once

#if defined(FUSEDNORM_EMULATE)
#include "emulation/device.h"
#else

#include <cooperative_groups.h>
#include <cuda_runtime.h>

#include <cstdint>

// A kernel, by the most threads that its blocks have and the number of those blocks
// that find registers on a multiprocessor.
#define FUSEDNORM_KERNEL(threads, blocks) \
  __global__ void __launch_bounds__(threads, blocks)
#define FUSEDNORM_DEVICE __device__ __forceinline__
// A function that is not inlined.
#define FUSEDNORM_DEVICE_CALL __device__ __noinline__

namespace fusednorm {
namespace cuda {
namespace device {

constexpr int kWarp = 32;

// Grids and blocks have one dimension.
FUSEDNORM_DEVICE int Thread() { return threadIdx.x; }
FUSEDNORM_DEVICE int Threads() { return blockDim.x; }
FUSEDNORM_DEVICE int64_t Block() { return blockIdx.x; }
FUSEDNORM_DEVICE int64_t Blocks() { return gridDim.x; }

// The block's place in its cluster: consecutive blocks; 0 of 1 without clusters.
FUSEDNORM_DEVICE int ClusterRank() {
#if __CUDA_ARCH__ >= 900
  uint32_t rank;
  asm("mov.u32 %0, %%cluster_ctarank;" : "=r"(rank));
  return rank;
#else
  return 0;
#endif
}
FUSEDNORM_DEVICE int ClusterBlocks() {
#if __CUDA_ARCH__ >= 900
  uint32_t blocks;
  asm("mov.u32 %0, %%cluster_nctarank;" : "=r"(blocks));
  return blocks;
#else
  return 1;
#endif
}

// Barriers of all threads of a block or a cluster; what was written to shared memory
// before is seen after.
FUSEDNORM_DEVICE void SyncBlock() { __syncthreads(); }
FUSEDNORM_DEVICE void SyncCluster() {
#if __CUDA_ARCH__ >= 900
  asm volatile(
      "barrier.cluster.arrive.release;\n"
      "barrier.cluster.wait.acquire;" ::
          : "memory");
#else
  __syncthreads();
#endif
}

// The value of the lane whose number differs in the bits of `mask`. All 32 lanes call.
template <class T>
FUSEDNORM_DEVICE T ShuffleXor(T value, int mask) {
  return __shfl_xor_sync(0xffffffffu, value, mask);
}

// The value of a lane of the warp. All 32 lanes call.
template <class T>
FUSEDNORM_DEVICE T ShuffleFrom(T value, int lane) {
  return __shfl_sync(0xffffffffu, value, lane);
}

struct alignas(16) Words {
  uint32_t word[4];
};

FUSEDNORM_DEVICE char* DynamicSharedMemory() {
  extern __shared__ __align__(16) char fusednorm_dynamic_shared_memory[];
  return fusednorm_dynamic_shared_memory;
}

// An array in dynamic shared memory, `offset` bytes from its start. T is float, double
// or Words.
template <class T>
class Shared {
 public:
  FUSEDNORM_DEVICE explicit Shared(int64_t offset)
      : data_(reinterpret_cast<T*>(DynamicSharedMemory() + offset)) {}

  FUSEDNORM_DEVICE T Get(int64_t i) const { return data_[i]; }
  FUSEDNORM_DEVICE void Set(int64_t i, T value) const { data_[i] = value; }

  // The element of another block of the cluster: after a SyncCluster that follows its
  // Set, and before one that the other block waits for before it goes on or ends.
  FUSEDNORM_DEVICE T GetFrom(int rank, int64_t i) const {
#if __CUDA_ARCH__ >= 900
    return *cooperative_groups::this_cluster().map_shared_rank(data_ + i, rank);
#else
    return data_[i];
#endif
  }

 private:
  T* data_;
};

// The same pointer, kept as one: the compiler would otherwise add up the offsets of
// each access before it adds the pointer, in four instructions instead of one.
template <class T>
FUSEDNORM_DEVICE T* Pinned(T* pointer) {
  asm("" : "+l"(pointer));
  return pointer;
}

// Accesses to global memory. `stream`: nobody reads this soon, let it leave L2 first.
template <class T>
FUSEDNORM_DEVICE T Load(const T* from) {
  return *from;
}
template <class T>
FUSEDNORM_DEVICE void Store(T* to, T value) {
  *to = value;
}
FUSEDNORM_DEVICE Words LoadWords(const void* from) {
  const uint4 v = *static_cast<const uint4*>(from);
  return {{v.x, v.y, v.z, v.w}};
}
// Of a tensor that this kernel reads once: L1 is left to what is read again. Loads of
// this kind stay where the source has them, before what uses the values.
FUSEDNORM_DEVICE Words LoadWordsOnce(const void* from) {
  Words words;
  asm volatile("ld.global.L1::no_allocate.v4.b32 {%0, %1, %2, %3}, [%4];"
               : "=r"(words.word[0]), "=r"(words.word[1]), "=r"(words.word[2]),
                 "=r"(words.word[3])
               : "l"(from));
  return words;
}
// Of what no thread writes while the kernel runs: it may be read early, before a
// barrier.
FUSEDNORM_DEVICE Words LoadConstantWords(const void* from) {
  const uint4 v = __ldg(static_cast<const uint4*>(from));
  return {{v.x, v.y, v.z, v.w}};
}
FUSEDNORM_DEVICE void StoreWords(void* to, const Words& words, bool stream) {
  const uint4 v =
      make_uint4(words.word[0], words.word[1], words.word[2], words.word[3]);
  uint4* at = static_cast<uint4*>(to);
  // Not *at = v, which the compiler takes apart where it stands behind branches.
  if (stream) {
    __stcs(at, v);
  } else {
    __stwb(at, v);
  }
}

}  // namespace device
}  // namespace cuda
}  // namespace fusednorm

#endif  // FUSEDNORM_EMULATE
