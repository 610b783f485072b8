// Everything that kernels use of CUDA beyond C++: thread indices, barriers, shuffles,
// shared memory, 16-byte accesses, and messages between blocks. Kernels call nothing
// else, so that the same source also runs on the CPU, under the thread model of
// tests/emulation/.
#pragma once

#if defined(FUSEDNORM_EMULATE)
#include "emulation/device.h"
#else

#include <cuda_runtime.h>

#include <cstdint>

// Declares a kernel. `threads` is the most threads of a block, and `blocks` the number
// of blocks that must fit the registers of one multiprocessor.
#define FUSEDNORM_KERNEL(threads, blocks) \
  __global__ void __launch_bounds__(threads, blocks)
#define FUSEDNORM_DEVICE __device__ __forceinline__
// Declares a function that is not inlined.
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

// The block's number in its cluster, which consists of consecutive blocks. It is 0
// where there are no clusters.
FUSEDNORM_DEVICE int ClusterRank() {
#if __CUDA_ARCH__ >= 900
  uint32_t rank;
  asm("mov.u32 %0, %%cluster_ctarank;" : "=r"(rank));
  return rank;
#else
  return 0;
#endif
}

// Barriers of all threads of a block or of a cluster. After the barrier, every thread
// sees what others wrote to shared memory before it.
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

// The value of the lane whose number differs from this lane's in the bits of `mask`.
// All 32 lanes must call.
template <class T>
FUSEDNORM_DEVICE T ShuffleXor(T value, int mask) {
  return __shfl_xor_sync(0xffffffffu, value, mask);
}

// The value of one lane of the warp. All 32 lanes must call.
template <class T>
FUSEDNORM_DEVICE T ShuffleFrom(T value, int lane) {
  return __shfl_sync(0xffffffffu, value, lane);
}

// Returns the same value. The compiler now knows that all lanes of the warp have it, so
// it may keep the value once for the warp and branch on it without divergence. All 32
// lanes must call.
FUSEDNORM_DEVICE int Uniform(int value) { return ShuffleFrom(value, 0); }
FUSEDNORM_DEVICE int64_t Uniform(int64_t value) {
  const int low = Uniform(static_cast<int>(value));
  const int high = Uniform(static_cast<int>(value >> 32));
  return int64_t{high} << 32 | static_cast<uint32_t>(low);
}

// Returns the same value, but hides from the compiler where it comes from. The compiler
// then computes again what depends on it, where it would otherwise keep the results in
// registers throughout a loop.
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

// Loads of shared memory that the compiler neither moves nor merges.
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
  // A load that the compiler neither moves nor merges with others. A plain load would
  // be moved out of a loop, and its value would then take a register throughout the
  // loop.
  FUSEDNORM_DEVICE T GetAgain(int64_t i) const { return LoadSharedAgain(data_ + i); }

  // Element `i` of the block `rank` of the cluster. The call must come after a
  // SyncCluster that follows that block's Set, and before a SyncCluster that keeps that
  // block from changing the element or ending.
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

// Returns the same pointer and makes the compiler keep it in a register. Otherwise the
// compiler adds up the offsets of each access before it adds the pointer, in four
// instructions instead of one.
template <class T>
FUSEDNORM_DEVICE T* Pinned(T* pointer) {
  asm("" : "+l"(pointer));
  return pointer;
}

// Accesses to global memory. `stream`: nobody reads this soon, so L2 may evict it
// first.
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
// Loads a part of a tensor that this kernel reads once, and leaves L1 to what is read
// again. The load stays where it is in the source, ahead of the code that uses the
// values.
FUSEDNORM_DEVICE Words LoadWordsOnce(const void* from) {
  Words words;
  asm volatile("ld.global.L1::no_allocate.v4.b32 {%0, %1, %2, %3}, [%4];"
               : "=r"(words.word[0]), "=r"(words.word[1]), "=r"(words.word[2]),
                 "=r"(words.word[3])
               : "l"(from));
  return words;
}
// Loads what no thread writes while the kernel runs. The compiler may therefore move
// the load up, even above a barrier.
FUSEDNORM_DEVICE Words LoadConstantWords(const void* from) {
  const uint4 v = __ldg(static_cast<const uint4*>(from));
  return {{v.x, v.y, v.z, v.w}};
}
FUSEDNORM_DEVICE void StoreWords(void* to, const Words& words, bool stream) {
  const uint4 v =
      make_uint4(words.word[0], words.word[1], words.word[2], words.word[3]);
  uint4* at = static_cast<uint4*>(to);
  // Not *at = v: where that is inside branches, the compiler splits it into several
  // stores.
  if (stream) {
    __stcs(at, v);
  } else {
    __stwb(at, v);
  }
}

// How blocks of one launch exchange data (`Launch::waits`): one block publishes and
// others fetch, through L2, which all blocks see. T is float, double or uint32_t. A
// counter says when the data is there. The writing block calls Publish, a barrier, and
// AddRelease by thread 0. The reading block calls LoadAcquire by thread 0, a barrier,
// and Fetch.
FUSEDNORM_DEVICE float FetchWord(const float* from) {
  float value;
  // Not __ldcg: some toolkits move it ahead of the loads that it has to wait for.
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

// Counters that the blocks of a launch share. They are zero before the launch. Only
// thread 0 of a block may acquire and release, on behalf of its block.

// Returns a number that no other caller gets. This does not order other accesses. Only
// thread 0 may call, so that the addend, its number plus 1, is 1. The compiler must not
// know that: from a constant it would make one addition for the whole warp, and a
// shuffle that waits for it.
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
// A block that sees the additions of others here may fetch what they published before.
FUSEDNORM_DEVICE uint32_t LoadAcquire(const uint32_t* from) {
  uint32_t value;
  asm volatile("ld.acquire.gpu.global.u32 %0, [%1];"
               : "=r"(value)
               : "l"(from)
               : "memory");
  return value;
}
// Adds 1 to tell others that the data is ready which this thread published, and which
// its block published before the last barrier.
FUSEDNORM_DEVICE void AddRelease(uint32_t* to) {
  asm volatile("red.release.gpu.global.add.u32 [%0], 1;" ::"l"(to) : "memory");
}
// Does what LoadAcquire and AddRelease do, and returns the number before the addition.
// The block that comes last may fetch what all others have published.
FUSEDNORM_DEVICE uint32_t AddAcquireRelease(uint32_t* to) {
  uint32_t value;
  asm volatile("atom.acq_rel.gpu.global.add.u32 %0, [%1], 1;"
               : "=r"(value)
               : "l"(to)
               : "memory");
  return value;
}

// A pause between two looks at a counter. It leaves the multiprocessor and L2 to the
// blocks that work.
FUSEDNORM_DEVICE void BackOff() { __nanosleep(40); }

// Ends the launch, and with it the process's use of the device. For states that cannot
// occur, and would otherwise hang or go unnoticed.
FUSEDNORM_DEVICE void Trap() { asm volatile("trap;"); }

}  // namespace device
}  // namespace cuda
}  // namespace fusednorm

#endif  // FUSEDNORM_EMULATE
