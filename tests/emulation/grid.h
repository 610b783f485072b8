// Runs a grid of CUDA threads on one CPU thread. Every CUDA thread is a fiber. The
// blocks of a cluster run together, and clusters run one after the other. Where blocks
// wait for others of the grid, some blocks run at a time and take turns. If a GPU would
// hang or do something wrong without a message, the process ends with a message.
#pragma once

#include <cstdint>
#include <string>

namespace fusednorm {
namespace cuda {

struct Launch;

namespace emulation {

// The value of each byte of memory that was not written: NaN in all floating-point
// types.
constexpr int kPoison = 0xFF;

struct ThreadContext {
  int thread = 0;
  int threads = 0;
  int64_t block = 0;
  int64_t blocks = 0;
  int rank = 0;
  int cluster = 1;
};
// The context of the running fiber.
const ThreadContext& Current();

// Ends the process with a message that names the kernel, the block and the thread.
[[noreturn]] void Fail(const std::string& what);

// What a thread waits for. With the first three it only waits for its turn.
enum class Barrier { kNone, kTurn, kBackOff, kShuffle, kBlock, kCluster };
void Wait(Barrier barrier);
// Returns the bits of the lane `lane ^ mask`.
uint64_t Exchange(uint64_t bits, int mask);
// Returns the bits of a lane of the warp.
uint64_t ExchangeFrom(uint64_t bits, int lane);

// Shared memory of the running block. For every word, a shadow knows which thread wrote
// and which read it since which barrier. It finds accesses that no barrier separates.
const char* SharedForRead(int64_t offset, int bytes);
char* SharedForWrite(int64_t offset, int bytes);
const char* SharedForRemoteRead(int rank, int64_t offset, int bytes);

void CheckAligned(const void* address);

// How blocks of one launch exchange data. Each function is called before the access.
// The first two fail without `Launch::waits`, and let other blocks run first.
enum class Atomic { kTicket, kAcquire, kRelease, kAcquireRelease };
void BeforeAtomic(Atomic atomic, const void* counter);
void BackOff();
void BeforeFetch(const void* from, int bytes);
void BeforePublish(const void* to, int bytes);
// Whether blocks of the running launch wait for others. Only then is CheckLoad needed.
extern bool blocks_wait;
// Checks a load that is not a Fetch. `constant`: no thread writes there while the
// kernel runs.
void CheckLoad(const void* from, int bytes, bool constant);

// Sets the order in which ready threads and blocks run: 0 forward, 1 backward, any
// other number shuffles with it as the seed. Results must not depend on the order.
// Blocks that wait for others take turns: with 0 one after the other, otherwise at
// random.
void SetOrder(uint32_t order);
// Sets how many blocks that wait for others may have started and not ended.
void SetResident(int blocks);

void RunGrid(const Launch& launch, const void* kernel, void (*entry)(void*),
             void* context);

}  // namespace emulation
}  // namespace cuda
}  // namespace fusednorm
