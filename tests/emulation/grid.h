// Runs a grid of CUDA threads on one CPU thread: every CUDA thread is a fiber, the
// blocks of a cluster run together, clusters one after the other, or, where blocks wait
// for others of the grid, some blocks at a time in turns. Whatever a GPU would do
// silently wrong or hang on ends the process with a message.
#pragma once

#include <cstdint>
#include <string>

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

// Ends the process with a message that names the kernel, the block and the thread.
[[noreturn]] void Fail(const std::string& what);

// What a thread waits for. The first three: for its turn only.
enum class Barrier { kNone, kTurn, kBackOff, kShuffle, kBlock, kCluster };
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

// What blocks of a launch tell one another. Each is called before the access; the first
// two are failures without `Launch::waits`, and let other blocks go on first.
enum class Atomic { kTicket, kAcquire, kRelease, kAcquireRelease };
void BeforeAtomic(Atomic atomic, const void* counter);
void BackOff();
void BeforeFetch(const void* from, int bytes);
void BeforePublish(const void* to, int bytes);
// Of the launch that runs: other launches do without the next function.
extern bool blocks_wait;
// A load that is no Fetch. `constant`: of what no thread writes while the kernel runs.
void CheckLoad(const void* from, int bytes, bool constant);

// The order in which ready threads and blocks run: 0 forward, 1 backward, else a
// shuffle by that seed. Results may not depend on it. Blocks that wait for others take
// turns: 0 one after the other, else at random by that seed.
void SetOrder(uint32_t order);
// How many blocks that wait for others have started and not ended, at most.
void SetResident(int blocks);

void RunGrid(const Launch& launch, const void* kernel, void (*entry)(void*),
             void* context);

}  // namespace emulation
}  // namespace cuda
}  // namespace fusednorm
