// Runs a grid of CUDA threads on one CPU thread: every CUDA thread is a fiber, the
// blocks of a cluster run together, clusters one after the other. Whatever a GPU would
// do silently wrong or hang on ends the process with a message.
#pragma once

#include <cstdint>

namespace fusednorm {
namespace cuda {

struct Launch;

namespace emulation {

// Each byte of memory that nothing was written to: NaN in all floating-point types.
constexpr int kPoison = 0xFF;

struct ThreadContext {
  int thread = 0;
  int threads = 0;
  int64_t block = 0;
  int64_t blocks = 0;
  int rank = 0;
  int cluster = 1;
};
// Of the running fiber.
const ThreadContext& Current();

enum class Barrier { kNone, kShuffle, kBlock, kCluster };
void Wait(Barrier barrier);
// The bits of the lane `lane ^ mask`.
uint64_t Exchange(uint64_t bits, int mask);
// The bits of a lane of the warp.
uint64_t ExchangeFrom(uint64_t bits, int lane);

// Shared memory of the running block. A shadow knows for every word who wrote and read
// it since which barrier, and finds what no barrier separates.
const char* SharedForRead(int64_t offset, int bytes);
char* SharedForWrite(int64_t offset, int bytes);
const char* SharedForRemoteRead(int rank, int64_t offset, int bytes);

void CheckAligned(const void* address);

// The order in which ready threads and blocks run: 0 forward, 1 backward, else a
// shuffle by that seed. Results may not depend on it.
void SetOrder(uint32_t order);

void RunGrid(const Launch& launch, const void* kernel, void (*entry)(void*),
             void* context);

}  // namespace emulation
}  // namespace cuda
}  // namespace fusednorm
