// What kernels use of CUDA beyond C++: thread indices, barriers, shuffles, shared
// memory, 16-byte accesses, what blocks tell one another. Kernels call nothing else, so
// that the same source also runs on the CPU, under the thread model of
// tests/emulation/.
#pragma once

#if defined(FUSEDNORM_EMULATE)
#include "emulation/device.h"
#else

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

// The same value, of which the compiler now knows that all lanes of the warp have it:
// it may keep it once for the warp, and branch on it as one. All 32 lanes call.
FUSEDNORM_DEVICE int Uniform(int value) { return ShuffleFrom(value, 0); }
FUSEDNORM_DEVICE int64_t Uniform(int64_t value) {
  const int low = Uniform(static_cast<int>(value));
  const int high = Uniform(static_cast<int>(value >> 32));
  return int64_t{high} << 32 | static_cast<uint32_t>(low);
}

// The same value, from where the compiler does not know: it computes again what is made
// of it, where it would otherwise keep that in registers over a loop.
FUSEDNORM_DEVICE int Opaque(int value) {
  asm volatile("" : "+r"(value));
  return value;
}

struct alignas(16) Words {
  uint32_t word[4];
};

FUSEDNORM_DEVICE char* DynamicSharedMemory() {
  extern __shared__ __align__(16) char fusednorm_dynamic_shared_memory[];
  return fusednorm_dynamic_shared_memory;
}

// Loads of shared memory that stay where the source has them, and are made each time.
FUSEDNORM_DEVICE uint32_t SharedAddress(const void* from) {
  return static_cast<uint32_t>(__cvta_generic_to_shared(from));
}
FUSEDNORM_DEVICE float LoadSharedAgain(const float* from) {
  float value;
  asm volatile("ld.volatile.shared.f32 %0, [%1];"
               : "=f"(value)
               : "r"(SharedAddress(from)));
  return value;
}
FUSEDNORM_DEVICE double LoadSharedAgain(const double* from) {
  double value;
  asm volatile("ld.volatile.shared.f64 %0, [%1];"
               : "=d"(value)
               : "r"(SharedAddress(from)));
  return value;
}
FUSEDNORM_DEVICE uint32_t LoadSharedAgain(const uint32_t* from) {
  uint32_t value;
  asm volatile("ld.volatile.shared.u32 %0, [%1];"
               : "=r"(value)
               : "r"(SharedAddress(from)));
  return value;
}
FUSEDNORM_DEVICE int LoadSharedAgain(const int* from) {
  return static_cast<int>(LoadSharedAgain(reinterpret_cast<const uint32_t*>(from)));
}
FUSEDNORM_DEVICE Words LoadSharedAgain(const Words* from) {
  Words words;
  asm volatile("ld.volatile.shared.v4.b32 {%0, %1, %2, %3}, [%4];"
               : "=r"(words.word[0]), "=r"(words.word[1]), "=r"(words.word[2]),
                 "=r"(words.word[3])
               : "r"(SharedAddress(from)));
  return words;
}

// An array in dynamic shared memory, `offset` bytes from its start. T is float, double,
// int, uint32_t or Words.
template <class T>
class Shared {
 public:
  FUSEDNORM_DEVICE explicit Shared(int64_t offset)
      : data_(reinterpret_cast<T*>(DynamicSharedMemory() + offset)) {}

  FUSEDNORM_DEVICE T Get(int64_t i) const { return data_[i]; }
  FUSEDNORM_DEVICE void Set(int64_t i, T value) const { data_[i] = value; }
  // A load that the compiler neither moves nor merges with others: it takes no
  // registers over a loop, where it would otherwise be moved out of it.
  FUSEDNORM_DEVICE T GetAgain(int64_t i) const { return LoadSharedAgain(data_ + i); }

  // The element of another block of the cluster: after a SyncCluster that follows its
  // Set, and before one that the other block waits for before it goes on or ends.
  FUSEDNORM_DEVICE T GetFrom(int rank, int64_t i) const {
#if __CUDA_ARCH__ >= 900
    return *static_cast<const T*>(__cluster_map_shared_rank(data_ + i, rank));
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

// What blocks of a launch tell one another, under `Launch::waits`: one publishes,
// others fetch, through L2, which all of them see. T is float, double or uint32_t. A
// counter says when: Publish, barrier, AddRelease by thread 0 on one side; LoadAcquire
// by thread 0, barrier, Fetch on the other.
FUSEDNORM_DEVICE float FetchWord(const float* from) {
  float value;
  // Not __ldcg, which not every toolkit keeps behind what it has to wait for.
  asm volatile("ld.global.cg.f32 %0, [%1];" : "=f"(value) : "l"(from));
  return value;
}
FUSEDNORM_DEVICE double FetchWord(const double* from) {
  double value;
  asm volatile("ld.global.cg.f64 %0, [%1];" : "=d"(value) : "l"(from));
  return value;
}
FUSEDNORM_DEVICE uint32_t FetchWord(const uint32_t* from) {
  uint32_t value;
  asm volatile("ld.global.cg.u32 %0, [%1];" : "=r"(value) : "l"(from));
  return value;
}
template <class T>
FUSEDNORM_DEVICE T Fetch(const T* from) {
  return FetchWord(from);
}
template <class T>
FUSEDNORM_DEVICE void Publish(T* to, T value) {
  __stcg(to, value);
}

// Counters that blocks of a launch share, zero before it. Only a block's thread 0 may
// acquire and release, for all of its block.
// A number that nobody else gets; orders nothing. Thread 0 alone calls, so it adds 1.
// Of a constant the compiler would make one addition for the whole warp and a shuffle,
// which waits for it.
FUSEDNORM_DEVICE uint64_t TakeTicket(uint64_t* counter) {
  uint32_t thread;
  asm volatile("mov.u32 %0, %%tid.x;" : "=r"(thread));
  uint64_t ticket;
  asm volatile("atom.relaxed.gpu.global.add.u64 %0, [%1], %2;"
               : "=l"(ticket)
               : "l"(counter), "l"(uint64_t{thread} + 1)
               : "memory");
  return ticket;
}
// Who sees the additions of others here may fetch what they published before those.
FUSEDNORM_DEVICE uint32_t LoadAcquire(const uint32_t* from) {
  uint32_t value;
  asm volatile("ld.acquire.gpu.global.u32 %0, [%1];"
               : "=r"(value)
               : "l"(from)
               : "memory");
  return value;
}
// Adds 1: what this thread published, and its block before the last barrier, is ready.
FUSEDNORM_DEVICE void AddRelease(uint32_t* to) {
  asm volatile("red.release.gpu.global.add.u32 [%0], 1;" ::"l"(to) : "memory");
}
// Both, and returns the number before: who comes last may fetch what all have
// published.
FUSEDNORM_DEVICE uint32_t AddAcquireRelease(uint32_t* to) {
  uint32_t value;
  asm volatile("atom.acq_rel.gpu.global.add.u32 %0, [%1], 1;"
               : "=r"(value)
               : "l"(to)
               : "memory");
  return value;
}

// Between two looks at a counter: leaves the multiprocessor and L2 to those who work.
FUSEDNORM_DEVICE void BackOff() { __nanosleep(40); }

// Ends the launch, and with it the process's use of the device: for what cannot be, and
// would otherwise hang or go unnoticed.
FUSEDNORM_DEVICE void Trap() { asm volatile("trap;"); }

}  // namespace device
}  // namespace cuda
}  // namespace fusednorm

#endif  // FUSEDNORM_EMULATE
