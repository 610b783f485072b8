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

namespace fusednorm {
namespace cuda {
namespace emulation {
namespace {

constexpr int kWarp = 32;
constexpr int kWordBytes = 4;
constexpr int kNobody = -1;
constexpr int kSeveral = -2;

// What is known of a word of shared memory.
struct Shadow {
  int writer = kNobody;  // thread
  int reader = kNobody;  // since the last barrier; kSeveral: more than one
  int64_t written = -1;  // block epoch
  int64_t read = -1;
  int64_t written_cluster = -1;  // cluster epoch
  int64_t read_remotely = -1;
};

constexpr int kFromLane = 32;  // no mask of a warp

struct Thread {
  ThreadContext context;
  Barrier waits = Barrier::kNone;
  bool done = false;
  uint64_t bits = 0;  // of a shuffle
  int mask = 0;       // of a shuffle; kFromLane: it names the lane instead
  int lane = 0;
};

struct BlockState {
  std::vector<Thread> threads;
  char* shared = nullptr;
  int64_t shared_bytes = 0;
  std::vector<Shadow> shadow;
  int64_t epoch = 0;  // barriers that all threads have passed
  int done = 0;
  int64_t read_by_others = -1;  // cluster epoch
};

// Everything of the grid that runs; one at a time.
struct Grid {
  std::string kernel;
  std::vector<BlockState> blocks;  // of the cluster
  int64_t cluster_epoch = 0;
  void (*entry)(void*) = nullptr;
  void* argument = nullptr;
};

Grid grid;
std::vector<std::unique_ptr<Fiber>> fibers;
uint32_t order_seed = 0;
BlockState* block_now = nullptr;
Thread* thread_now = nullptr;
Fiber* fiber_now = nullptr;

[[noreturn]] void Fail(const std::string& what) {
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

const char* Name(Barrier barrier) {
  switch (barrier) {
    case Barrier::kNone:
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

void ResumeThread(BlockState* block, int index, Fiber* fiber) {
  block_now = block;
  thread_now = &block->threads[index];
  fiber_now = fiber;
  fiber->Resume();
  if (thread_now->done) {
    if (block->read_by_others == grid.cluster_epoch) {
      Fail("ends while others of its cluster may still read its shared memory");
    }
    ++block->done;
  }
  thread_now = nullptr;
}

// Runs a warp until all of its threads wait at barriers or are done.
void RunWarp(BlockState* block, int first, Fiber* const* warp_fibers,
             const std::vector<int>& lanes) {
  for (;;) {
    for (const int lane : lanes) {
      Thread& thread = block->threads[first + lane];
      if (!thread.done && thread.waits == Barrier::kNone) {
        ResumeThread(block, first + lane, warp_fibers[lane]);
      }
    }
    int shuffling = 0;
    for (int lane = 0; lane < kWarp; ++lane) {
      shuffling += block->threads[first + lane].waits == Barrier::kShuffle;
    }
    if (shuffling == 0) return;
    for (int lane = 0; lane < kWarp; ++lane) {
      const Thread& thread = block->threads[first + lane];
      if (thread.waits == Barrier::kShuffle &&
          thread.mask == block->threads[first].mask) {
        continue;
      }
      thread_now = &block->threads[first + lane];
      Fail(thread.done ? "has ended while others of its warp shuffle"
           : thread.waits == Barrier::kShuffle
               ? "shuffles with another mask than lane 0"
               : std::string("waits at ") + Name(thread.waits) +
                     " while others of its warp shuffle");
    }
    uint64_t bits[kWarp];
    for (int lane = 0; lane < kWarp; ++lane) {
      bits[lane] = block->threads[first + lane].bits;
    }
    for (int lane = 0; lane < kWarp; ++lane) {
      Thread& thread = block->threads[first + lane];
      thread.bits = bits[thread.mask == kFromLane ? thread.lane : lane ^ thread.mask];
      thread.waits = Barrier::kNone;
    }
  }
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

// Lets those go on who have all arrived. False: nobody waits.
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
      for (Thread& thread : block.threads) {
        if (thread.waits == (at_block > 0 ? Barrier::kBlock : Barrier::kCluster)) {
          continue;
        }
        thread_now = &thread;
        Fail(thread.done ? "has ended while others of its block wait at a barrier"
                         : std::string("waits at ") + Name(thread.waits) +
                               " while others of its block wait at another barrier");
      }
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

void RunCluster(int64_t first_block, const Launch& launch) {
  grid.cluster_epoch = 0;
  grid.blocks.clear();
  grid.blocks.resize(launch.cluster);
  size_t fiber = 0;
  for (int rank = 0; rank < launch.cluster; ++rank) {
    BlockState& block = grid.blocks[rank];
    block.threads.resize(launch.threads);
    block.shared_bytes = launch.shared_bytes;
    block.shared = static_cast<char*>(std::malloc(launch.shared_bytes));
    std::memset(block.shared, kPoison, static_cast<size_t>(launch.shared_bytes));
    block.shadow.resize((launch.shared_bytes + kWordBytes - 1) / kWordBytes);
    for (int i = 0; i < launch.threads; ++i) {
      block.threads[i].context = {
          i, launch.threads, first_block + rank, launch.blocks, rank, launch.cluster};
      fibers[fiber++]->Start(ThreadMain, &block.threads[i]);
    }
  }
  std::vector<int> ranks(launch.cluster), warps(launch.threads / kWarp), lanes(kWarp);
  std::iota(ranks.begin(), ranks.end(), 0);
  std::iota(warps.begin(), warps.end(), 0);
  std::iota(lanes.begin(), lanes.end(), 0);
  uint32_t salt = static_cast<uint32_t>(first_block);
  do {
    Order(&ranks, ++salt);
    Order(&warps, ++salt);
    Order(&lanes, ++salt);
    for (const int rank : ranks) {
      for (const int warp : warps) {
        const int first = warp * kWarp;
        Fiber* of_warp[kWarp];
        for (int lane = 0; lane < kWarp; ++lane) {
          of_warp[lane] = fibers[rank * launch.threads + first + lane].get();
        }
        RunWarp(&grid.blocks[rank], first, of_warp, lanes);
      }
    }
  } while (ReleaseBarriers());
  for (BlockState& block : grid.blocks) std::free(block.shared);
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

const ThreadContext& Current() { return thread_now->context; }

void Wait(Barrier barrier) {
  thread_now->waits = barrier;
  fiber_now->Suspend();
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
  BlockState& block = grid.blocks[rank];
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

void SetOrder(uint32_t order) { order_seed = order; }

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
  grid.entry = entry;
  grid.argument = context;
  while (fibers.size() < static_cast<size_t>(launch.threads) * launch.cluster) {
    fibers.push_back(std::make_unique<Fiber>());
  }
  std::vector<int64_t> clusters(launch.blocks / launch.cluster);
  std::iota(clusters.begin(), clusters.end(), 0);
  Order(&clusters, 0);
  for (const int64_t cluster : clusters) RunCluster(cluster * launch.cluster, launch);
}

}  // namespace emulation
}  // namespace cuda
}  // namespace fusednorm
