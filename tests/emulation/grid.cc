#include "emulation/grid.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <numeric>
#include <random>
#include <string>
#include <vector>

#include "cuda/plan/plan.h"
#include "emulation/fiber.h"
#include "emulation/messages.h"

namespace fusednorm {
namespace cuda {
namespace emulation {
namespace {

constexpr int kWarp = 32;
constexpr int kWordBytes = 4;
constexpr int kNobody = -1;
constexpr int kSeveral = -2;
// The process ends after so many turns in a row in which blocks have only looked
// whether they may go on. Far fewer would be enough; these take a fraction of a second.
constexpr int kIdleTurns = 20000;
// The process ends after so many loads of one address in a row by a thread that does
// not back off in between.
constexpr int kPolls = 100000;
// The turns for which a thread is held up before some accesses to counters.
constexpr int kPause = 20;

// What is known of a word of shared memory.
struct Shadow {
  int writer = kNobody;  // thread
  int reader = kNobody;  // since the last barrier; kSeveral: several threads
  int64_t written = -1;  // epoch of the block
  int64_t read = -1;
  int64_t written_cluster = -1;  // epoch of the cluster
  int64_t read_remotely = -1;
};

constexpr int kFromLane = 32;  // cannot be the mask of a shuffle

struct Thread {
  ThreadContext context;
  Fiber* fiber = nullptr;
  Barrier waits = Barrier::kNone;
  bool done = false;
  const void* polled = nullptr;  // the last address that it fetched or acquired
  int polls = 0;                 // times in a row
  uint64_t bits = 0;             // exchanged in a shuffle
  int mask = 0;                  // mask of a shuffle; kFromLane: use `lane` instead
  int lane = 0;
};

struct BlockState {
  std::vector<Thread> threads;
  char* shared = nullptr;
  int64_t shared_bytes = 0;
  std::vector<Shadow> shadow;
  int64_t epoch = 0;  // barriers that all threads have passed
  int done = 0;
  int64_t read_by_others = -1;  // epoch of the cluster
  Mind mind;
  bool slow = false;  // gets fewer turns than others
};

// The state of the grid that runs. Only one runs at a time.
struct Grid {
  std::string kernel;
  std::vector<BlockState> blocks;  // of the cluster, or those that are resident
  int64_t cluster_epoch = 0;
  // Only for blocks that wait for others:
  Messages messages;
  std::mt19937 random;
  bool progress = false;  // in this turn
  int idle = 0;           // turns without progress
  void (*entry)(void*) = nullptr;
  void* argument = nullptr;
};

Grid grid;
std::vector<std::unique_ptr<Fiber>> fibers;
uint32_t order_seed = 0;
int most_resident = 4;
BlockState* block_now = nullptr;
Thread* thread_now = nullptr;

const char* Name(Barrier barrier) {
  switch (barrier) {
    case Barrier::kNone:
    case Barrier::kTurn:
    case Barrier::kBackOff:
      return "nothing";
    case Barrier::kShuffle:
      return "a shuffle";
    case Barrier::kBlock:
      return "a barrier of the block";
    case Barrier::kCluster:
      return "a barrier of the cluster";
  }
  return "";
}

// The names are those of device.cuh.
const char* Name(Atomic atomic) {
  switch (atomic) {
    case Atomic::kTicket:
      return "TakeTicket";
    case Atomic::kAcquire:
      return "LoadAcquire";
    case Atomic::kRelease:
      return "AddRelease";
    case Atomic::kAcquireRelease:
      return "AddAcquireRelease";
  }
  return "";
}

template <class T>
void Order(std::vector<T>* items, uint32_t salt) {
  if (order_seed == 1) {
    std::reverse(items->begin(), items->end());
  } else if (order_seed > 1) {
    std::shuffle(items->begin(), items->end(), std::mt19937(order_seed + salt));
  }
}

void ThreadMain(void* thread) {
  grid.entry(grid.argument);
  static_cast<Thread*>(thread)->done = true;
}

// Whether a thread can run without waiting for others.
bool CanRun(const Thread& thread) {
  return !thread.done && thread.waits <= Barrier::kBackOff;
}

void ResumeThread(BlockState* block, Thread* thread) {
  block_now = block;
  thread_now = thread;
  thread->waits = Barrier::kNone;
  thread->fiber->Resume();
  if (thread->done) {
    if (block->read_by_others == grid.cluster_epoch) {
      Fail("ends while others of its cluster may still read its shared memory");
    }
    ++block->done;
  }
  grid.progress |= !CanRun(*thread);
  thread_now = nullptr;
}

// Runs each thread of a warp that can run, until it waits.
void RunLanes(BlockState* block, int first, const std::vector<int>& lanes) {
  for (const int lane : lanes) {
    Thread& thread = block->threads[first + lane];
    if (CanRun(thread)) ResumeThread(block, &thread);
  }
}

void CheckShuffle(Thread* thread, const Thread& lane0) {
  if (thread->waits == Barrier::kShuffle && thread->mask == lane0.mask) return;
  thread_now = thread;
  Fail(thread->done ? "has ended while others of its warp shuffle"
       : thread->waits == Barrier::kShuffle
           ? "shuffles with another mask than lane 0"
           : std::string("waits at ") + Name(thread->waits) +
                 " while others of its warp shuffle");
}

// If all lanes of a warp wait in a shuffle, does it and lets them go on. Otherwise
// returns false.
bool Shuffle(BlockState* block, int first) {
  Thread* const warp = &block->threads[first];
  int shuffling = 0, running = 0;
  for (int lane = 0; lane < kWarp; ++lane) {
    shuffling += warp[lane].waits == Barrier::kShuffle;
    running += CanRun(warp[lane]);
  }
  if (shuffling == 0 || running > 0) return false;
  uint64_t bits[kWarp];
  for (int lane = 0; lane < kWarp; ++lane) {
    CheckShuffle(&warp[lane], warp[0]);
    bits[lane] = warp[lane].bits;
  }
  for (int lane = 0; lane < kWarp; ++lane) {
    Thread& thread = warp[lane];
    thread.bits = bits[thread.mask == kFromLane ? thread.lane : lane ^ thread.mask];
    thread.waits = Barrier::kNone;
  }
  return true;
}

// Runs a warp until all of its threads wait at barriers or are done.
void RunWarp(BlockState* block, int first, const std::vector<int>& lanes) {
  do {
    RunLanes(block, first, lanes);
  } while (Shuffle(block, first));
}

int CountWaiting(const BlockState& block, Barrier barrier) {
  int count = 0;
  for (const Thread& thread : block.threads) count += thread.waits == barrier;
  return count;
}

void Release(BlockState* block) {
  ++block->epoch;
  for (Thread& thread : block->threads) thread.waits = Barrier::kNone;
}

// Ends the process if threads of the block wait at a barrier that some can never reach.
void CheckBarrier(BlockState* block, Barrier barrier) {
  for (Thread& thread : block->threads) {
    if (thread.waits == barrier || thread.waits == Barrier::kShuffle ||
        CanRun(thread)) {
      continue;
    }
    thread_now = &thread;
    Fail(thread.done ? "has ended while others of its block wait at a barrier"
                     : std::string("waits at ") + Name(thread.waits) +
                           " while others of its block wait at another barrier");
  }
}

// Lets threads go on whose barrier all have reached. Returns false if no thread waits.
bool ReleaseBarriers() {
  bool released = false, waits = false;
  size_t at_cluster = 0;
  for (BlockState& block : grid.blocks) {
    const int threads = static_cast<int>(block.threads.size());
    const int at_block = CountWaiting(block, Barrier::kBlock);
    const int at_cluster_barrier = CountWaiting(block, Barrier::kCluster);
    waits |= at_block + at_cluster_barrier > 0;
    if (at_block == threads) {
      Release(&block);
      released = true;
    } else if (at_cluster_barrier == threads) {
      ++at_cluster;
    } else if (at_block + at_cluster_barrier > 0) {
      CheckBarrier(&block, at_block > 0 ? Barrier::kBlock : Barrier::kCluster);
    }
  }
  if (at_cluster == grid.blocks.size()) {
    ++grid.cluster_epoch;
    for (BlockState& block : grid.blocks) Release(&block);
    released = true;
  }
  if (waits && !released) {
    Fail(
        "blocks of a cluster wait at its barrier for blocks that have ended or wait "
        "elsewhere");
  }
  return waits;
}

// The numbers of threads or blocks in the order in which they run.
struct Turns {
  explicit Turns(const Launch& launch)
      : ranks(launch.cluster), warps(launch.threads / kWarp), lanes(kWarp) {
    std::iota(ranks.begin(), ranks.end(), 0);
    std::iota(warps.begin(), warps.end(), 0);
    std::iota(lanes.begin(), lanes.end(), 0);
  }
  std::vector<int> ranks, warps, lanes;
};

// Starts a block in place `slot` of grid.blocks.
void StartBlock(int slot, int64_t index, int rank, const Launch& launch) {
  BlockState& block = grid.blocks[slot];
  block = BlockState();
  block.threads.resize(launch.threads);
  block.shared_bytes = launch.shared_bytes;
  block.shared = static_cast<char*>(std::malloc(launch.shared_bytes));
  std::memset(block.shared, kPoison, static_cast<size_t>(launch.shared_bytes));
  block.shadow.resize((launch.shared_bytes + kWordBytes - 1) / kWordBytes);
  for (int i = 0; i < launch.threads; ++i) {
    Thread& thread = block.threads[i];
    thread.context = {i, launch.threads, index, launch.blocks, rank, launch.cluster};
    thread.fiber = fibers[static_cast<size_t>(slot) * launch.threads + i].get();
    thread.fiber->Start(ThreadMain, &thread);
  }
}

void RunCluster(int64_t first_block, const Launch& launch) {
  grid.cluster_epoch = 0;
  for (int rank = 0; rank < launch.cluster; ++rank) {
    StartBlock(rank, first_block + rank, rank, launch);
  }
  Turns turns(launch);
  uint32_t salt = static_cast<uint32_t>(first_block);
  do {
    Order(&turns.ranks, ++salt);
    Order(&turns.warps, ++salt);
    Order(&turns.lanes, ++salt);
    for (const int rank : turns.ranks) {
      for (const int warp : turns.warps) {
        RunWarp(&grid.blocks[rank], warp * kWarp, turns.lanes);
      }
    }
  } while (ReleaseBarriers());
  for (BlockState& block : grid.blocks) std::free(block.shared);
}

// Returns true in one of `times` cases. Always false if blocks take turns one after the
// other.
bool Chance(uint32_t times) { return order_seed != 0 && grid.random() % times == 0; }

void StartResident(int slot, int64_t index, const Launch& launch) {
  StartBlock(slot, index, 0, launch);
  grid.blocks[slot].mind = grid.messages.NewMind();
  grid.blocks[slot].slow = Chance(4);
}

// Runs all or some warps of a block, each until it waits.
void TakeTurn(BlockState* block, Turns* turns) {
  if (order_seed != 0) {
    std::shuffle(turns->warps.begin(), turns->warps.end(), grid.random);
    std::shuffle(turns->lanes.begin(), turns->lanes.end(), grid.random);
  }
  for (const int warp : turns->warps) {
    RunLanes(block, warp * kWarp, turns->lanes);
    grid.progress |= Shuffle(block, warp * kWarp);
    if (grid.progress && Chance(4)) return;
  }
  for (const Barrier barrier : {Barrier::kBlock, Barrier::kCluster}) {
    const int waiting = CountWaiting(*block, barrier);
    if (waiting == 0) continue;
    if (waiting < static_cast<int>(block->threads.size())) {
      CheckBarrier(block, barrier);
      continue;
    }
    Release(block);
    Messages::Meet(&block->mind);
    grid.progress = true;
  }
}

// Chooses the resident block that has the next turn.
size_t NextTurn(const std::vector<int>& slots, size_t last) {
  if (order_seed == 0) return (last + 1) % slots.size();
  for (;;) {
    const size_t next = grid.random() % slots.size();
    if (!grid.blocks[slots[next]].slow || Chance(16)) return next;
  }
}

// To be called after a turn. Ends the process if no thread can go on.
void CheckProgress(const std::vector<int>& slots, int64_t left) {
  grid.idle = grid.progress ? 0 : grid.idle + 1;
  if (grid.idle < kIdleTurns) return;
  for (const int slot : slots) {
    for (Thread& thread : grid.blocks[slot].threads) {
      if (CanRun(thread)) thread_now = &thread;
    }
  }
  Fail("waits for another block, and nobody can go on: so do all " +
       std::to_string(slots.size()) + " blocks that have started, and " +
       std::to_string(left) + " cannot start before one of them ends");
}

// Runs blocks that wait for others. Some of them have started at a time, and take
// turns.
void RunResident(const std::vector<int64_t>& blocks, const Launch& launch) {
  grid.cluster_epoch = 0;
  grid.messages.Start(launch.blocks);
  grid.random.seed(order_seed);
  grid.idle = 0;
  std::vector<int> slots(grid.blocks.size());
  std::iota(slots.begin(), slots.end(), 0);
  size_t started = 0;
  for (const int slot : slots) StartResident(slot, blocks[started++], launch);
  Turns turns(launch);
  for (size_t now = 0; !slots.empty();) {
    now = NextTurn(slots, now);
    BlockState* block = &grid.blocks[slots[now]];
    grid.progress = false;
    TakeTurn(block, &turns);
    if (block->done == launch.threads) {
      std::free(block->shared);
      if (started < blocks.size()) {
        StartResident(slots[now], blocks[started++], launch);
      } else {
        slots.erase(slots.begin() + now);
      }
    }
    CheckProgress(slots, static_cast<int64_t>(blocks.size() - started));
  }
}

void NeedWaits(const char* what) {
  if (blocks_wait) return;
  Fail(std::string("calls ") + what +
       " in a launch that does not say that its blocks wait for others");
}

// Ends the process if a thread looks at one address for ever and lets no other go on.
void Poll(const char* what, const void* address) {
  Thread* thread = thread_now;
  thread->polls = thread->polled == address ? thread->polls + 1 : 0;
  thread->polled = address;
  if (thread->polls < kPolls) return;
  Fail(std::string("calls ") + what + " of one address " + std::to_string(kPolls) +
       " times and does not call BackOff");
}

Actor Self() {
  const ThreadContext& self = thread_now->context;
  return {self.block, self.thread, block_now->epoch, &block_now->mind};
}

void CheckRange(const BlockState& block, int64_t offset, int bytes) {
  if (offset < 0 || offset + bytes > block.shared_bytes) {
    Fail("accesses bytes " + std::to_string(offset) + " to " +
         std::to_string(offset + bytes) + " of " + std::to_string(block.shared_bytes) +
         " bytes of shared memory");
  }
  if (offset % std::min(bytes, 16) != 0) {
    Fail("accesses shared memory at byte " + std::to_string(offset) +
         ", which is not a multiple of " + std::to_string(bytes));
  }
}

std::string At(int64_t offset) { return " at byte " + std::to_string(offset); }

}  // namespace

bool blocks_wait = false;

void Fail(const std::string& what) {
  std::string where;
  if (thread_now != nullptr) {
    where = ", block " + std::to_string(thread_now->context.block) + ", thread " +
            std::to_string(thread_now->context.thread);
  }
  std::fprintf(stderr, "emulation: kernel %s%s: %s\n", grid.kernel.c_str(),
               where.c_str(), what.c_str());
  std::fflush(stderr);
  std::abort();
}

const ThreadContext& Current() { return thread_now->context; }

void Wait(Barrier barrier) {
  thread_now->waits = barrier;
  thread_now->fiber->Suspend();
}

uint64_t Exchange(uint64_t bits, int mask) {
  Thread* thread = thread_now;
  thread->bits = bits;
  thread->mask = mask;
  Wait(Barrier::kShuffle);
  return thread->bits;
}

uint64_t ExchangeFrom(uint64_t bits, int lane) {
  thread_now->lane = lane;
  return Exchange(bits, kFromLane);
}

const char* SharedForRead(int64_t offset, int bytes) {
  BlockState& block = *block_now;
  CheckRange(block, offset, bytes);
  const int self = thread_now->context.thread;
  for (int64_t at = offset; at < offset + bytes; at += kWordBytes) {
    Shadow& shadow = block.shadow[at / kWordBytes];
    if (shadow.writer == kNobody) {
      Fail("reads shared memory that nobody wrote" + At(at));
    }
    if (shadow.writer != self && shadow.written == block.epoch) {
      Fail("reads shared memory that thread " + std::to_string(shadow.writer) +
           " wrote since the last barrier" + At(at));
    }
    shadow.reader =
        shadow.read == block.epoch && shadow.reader != self ? kSeveral : self;
    shadow.read = block.epoch;
  }
  return block.shared + offset;
}

char* SharedForWrite(int64_t offset, int bytes) {
  BlockState& block = *block_now;
  CheckRange(block, offset, bytes);
  const int self = thread_now->context.thread;
  for (int64_t at = offset; at < offset + bytes; at += kWordBytes) {
    Shadow& shadow = block.shadow[at / kWordBytes];
    if (shadow.written == block.epoch && shadow.writer != self) {
      Fail("writes shared memory that thread " + std::to_string(shadow.writer) +
           " wrote since the last barrier" + At(at));
    }
    if (shadow.read == block.epoch && shadow.reader != self) {
      Fail("writes shared memory that another thread read since the last barrier" +
           At(at));
    }
    if (shadow.read_remotely == grid.cluster_epoch) {
      Fail(
          "writes shared memory that another block read since the last barrier of "
          "the cluster" +
          At(at));
    }
    shadow.writer = self;
    shadow.written = block.epoch;
    shadow.written_cluster = grid.cluster_epoch;
  }
  return block.shared + offset;
}

const char* SharedForRemoteRead(int rank, int64_t offset, int bytes) {
  if (rank < 0 || rank >= thread_now->context.cluster) {
    Fail("reads from block " + std::to_string(rank) + " of a cluster of " +
         std::to_string(thread_now->context.cluster));
  }
  BlockState& block = block_now[rank - thread_now->context.rank];
  CheckRange(block, offset, bytes);
  if (&block != block_now) block.read_by_others = grid.cluster_epoch;
  if (block.done > 0) Fail("reads shared memory of a block that has ended");
  for (int64_t at = offset; at < offset + bytes; at += kWordBytes) {
    Shadow& shadow = block.shadow[at / kWordBytes];
    if (shadow.writer == kNobody) {
      Fail("reads shared memory of another block that nobody wrote" + At(at));
    }
    if (shadow.written_cluster == grid.cluster_epoch) {
      Fail("reads shared memory that block " + std::to_string(rank) +
           " of the cluster wrote since the last barrier of the cluster" + At(at));
    }
    shadow.read_remotely = grid.cluster_epoch;
  }
  return block.shared + offset;
}

void CheckAligned(const void* address) {
  if (reinterpret_cast<uintptr_t>(address) % 16 != 0) {
    Fail("makes a 16-byte access at an address that is not a multiple of 16");
  }
}

void BeforeAtomic(Atomic atomic, const void* counter) {
  NeedWaits(Name(atomic));
  // Other threads may run between any two of these accesses, sometimes for long.
  // Otherwise all blocks would have equally many turns.
  for (int turns = Chance(4) ? kPause : Chance(2); turns > 0; --turns) {
    Wait(Barrier::kTurn);
  }
  const bool both = atomic == Atomic::kAcquireRelease;
  if (atomic == Atomic::kAcquire) {
    Poll(Name(atomic), counter);
  } else {
    grid.progress = true;
  }
  if (both || atomic == Atomic::kAcquire) grid.messages.Acquire(Self(), counter);
  if (both || atomic == Atomic::kRelease) grid.messages.Release(Self(), counter);
}

void BackOff() {
  NeedWaits("BackOff");
  thread_now->polled = nullptr;
  Wait(Barrier::kBackOff);
}

void BeforeFetch(const void* from, int bytes) {
  if (!blocks_wait) return;
  Poll("Fetch", from);
  grid.messages.Fetch(Self(), from, bytes);
}

void BeforePublish(const void* to, int bytes) {
  if (!blocks_wait) return;
  grid.progress = true;
  grid.messages.Publish(Self(), to, bytes);
}

void CheckLoad(const void* from, int bytes, bool constant) {
  grid.messages.Load(Self(), from, bytes, constant);
}

void SetOrder(uint32_t order) { order_seed = order; }

void SetResident(int blocks) { most_resident = blocks; }

void RunGrid(const Launch& launch, const void*, void (*entry)(void*), void* context) {
  grid.kernel = launch.kernel;
  thread_now = nullptr;
  if (launch.threads < kWarp || launch.threads > 1024 || launch.threads % kWarp != 0) {
    Fail("blocks of " + std::to_string(launch.threads) + " threads");
  }
  if (launch.blocks < 1 || launch.cluster < 1 || launch.blocks % launch.cluster != 0) {
    Fail(std::to_string(launch.blocks) + " blocks in clusters of " +
         std::to_string(launch.cluster));
  }
  if (launch.waits && launch.cluster > 1) {
    Fail("blocks of clusters do not wait for others here");
  }
  if (most_resident < 1) Fail("no block may start");
  grid.entry = entry;
  grid.argument = context;
  blocks_wait = launch.waits;
  grid.blocks.clear();
  grid.blocks.resize(launch.waits ? std::min<int64_t>(launch.blocks, most_resident)
                                  : launch.cluster);
  while (fibers.size() < grid.blocks.size() * launch.threads) {
    fibers.push_back(std::make_unique<Fiber>());
  }
  std::vector<int64_t> clusters(launch.blocks / launch.cluster);
  std::iota(clusters.begin(), clusters.end(), 0);
  Order(&clusters, 0);
  if (launch.waits) {
    RunResident(clusters, launch);
    return;
  }
  for (const int64_t cluster : clusters) RunCluster(cluster * launch.cluster, launch);
}

}  // namespace emulation
}  // namespace cuda
}  // namespace fusednorm
