// Small kernels, most of which are wrong in one way. test_harness.py checks that the
// emulation finds each fault.
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "cuda/kernels/common/device.cuh"

namespace fusednorm {
namespace cuda {
namespace {

constexpr int kThreads = 64;
constexpr int64_t kBytes = 4 * kThreads;

constexpr int kMostBlocks = 8;
constexpr int kTickets = 40;

struct ToyArgs {
  float* out;  // kThreads numbers, aligned
  // Zeros before the launch.
  uint32_t* counters;  // 3
  float* words;        // kThreads for each block
  uint32_t* seen;      // one for each ticket
};

device::Shared<float> Numbers() { return device::Shared<float>(0); }

float Neighbour(int distance) {
  return Numbers().Get((device::Thread() + distance) % device::Threads());
}
void SetOwn() { Numbers().Set(device::Thread(), static_cast<float>(device::Thread())); }
void SetOut(const ToyArgs& args, float value) {
  device::Store(args.out + device::Thread(), value);
}

FUSEDNORM_KERNEL(kThreads, 1) BlockSum(const ToyArgs args) {
  float sum = static_cast<float>(device::Thread());
  for (int mask = 16; mask > 0; mask /= 2) sum += device::ShuffleXor(sum, mask);
  if (device::Thread() % 32 == 0) Numbers().Set(device::Thread() / 32, sum);
  device::SyncBlock();
  SetOut(args, Numbers().Get(0) + Numbers().Get(1));
}
FUSEDNORM_KERNEL(kThreads, 1) ClusterSum(const ToyArgs args) {
  Numbers().Set(device::Thread(), static_cast<float>(device::ClusterRank() + 1));
  device::SyncCluster();
  float sum = 0;
  for (int rank = 0; rank < emulation::Current().cluster; ++rank) {
    sum += Numbers().GetFrom(rank, device::Thread());
  }
  if (device::ClusterRank() == 0) SetOut(args, sum);
  device::SyncCluster();
}
// Writes and reads halves of one word. The shadow only knows whole words, so the poison
// in the half that was not written has to show.
FUSEDNORM_KERNEL(kThreads, 1) OtherHalf(const ToyArgs args) {
  const device::Shared<uint16_t> halves(0);
  halves.Set(2 * device::Thread(), 0);
  SetOut(args, static_cast<float>(halves.Get(2 * device::Thread() + 1)));
}
// Leaves a number that depends on which block comes first.
FUSEDNORM_KERNEL(kThreads, 1) BlocksRace(const ToyArgs args) {
  if (device::Thread() != 0) return;
  *args.out = 2 * *args.out + static_cast<float>(device::Block());
}

FUSEDNORM_KERNEL(kThreads, 1) NoBarrier(const ToyArgs args) {
  SetOwn();
  SetOut(args, Neighbour(32));
}
FUSEDNORM_KERNEL(kThreads, 1) NoBarrierInWarp(const ToyArgs args) {
  SetOwn();
  device::ShuffleXor(0.f, 1);  // does not order other accesses
  SetOut(args, Numbers().Get(device::Thread() ^ 1));
}
FUSEDNORM_KERNEL(kThreads, 1) WriteAfterRead(const ToyArgs args) {
  SetOwn();
  device::SyncBlock();
  SetOut(args, Neighbour(1));
  SetOwn();
}
FUSEDNORM_KERNEL(kThreads, 1) WriteAfterWrite(const ToyArgs) {
  Numbers().Set(device::Thread() / 2, 1);
}
FUSEDNORM_KERNEL(kThreads, 1) Uninitialised(const ToyArgs args) {
  if (device::Thread() != 7) SetOwn();
  device::SyncBlock();
  SetOut(args, Neighbour(1));
}
FUSEDNORM_KERNEL(kThreads, 1) OutOfShared(const ToyArgs) {
  Numbers().Set(device::Thread() + 1, 1);
}
FUSEDNORM_KERNEL(kThreads, 1) BeforeShared(const ToyArgs) {
  Numbers().Set(device::Thread() - 1, 1);
}
FUSEDNORM_KERNEL(kThreads, 1) OddShared(const ToyArgs) {
  const device::Shared<double> odd(4);
  if (device::Thread() == 0) odd.Set(0, 1);
}
FUSEDNORM_KERNEL(kThreads, 1) OutOfGlobal(const ToyArgs args) {
  device::Store(args.out + device::Thread() + 1, 1.f);
}
FUSEDNORM_KERNEL(kThreads, 1) MisalignedLoad(const ToyArgs args) {
  device::LoadWords(args.out + 1);
}
FUSEDNORM_KERNEL(kThreads, 1) MisalignedStore(const ToyArgs args) {
  device::StoreWords(args.out + 2, {}, false);
}

FUSEDNORM_KERNEL(kThreads, 1) EndsBeforeBarrier(const ToyArgs) {
  if (device::Thread() == 40) return;
  device::SyncBlock();
}
FUSEDNORM_KERNEL(kThreads, 1) OtherBarrier(const ToyArgs) {
  if (device::Thread() < 32) {
    device::SyncBlock();
  } else {
    device::SyncCluster();
  }
}
FUSEDNORM_KERNEL(kThreads, 1) PartialShuffle(const ToyArgs) {
  if (device::Thread() % 32 < 16) device::ShuffleXor(1.f, 1);
}
FUSEDNORM_KERNEL(kThreads, 1) ShuffleAgainstBarrier(const ToyArgs) {
  if (device::Thread() == 3) {
    device::SyncBlock();
  } else {
    device::ShuffleXor(1.f, 1);
  }
}
FUSEDNORM_KERNEL(kThreads, 1) OtherMask(const ToyArgs) {
  device::ShuffleXor(1.f, device::Thread() == 3 ? 2 : 1);
}

FUSEDNORM_KERNEL(kThreads, 1) ClusterNoSync(const ToyArgs) {
  SetOwn();
  Numbers().GetFrom(1 - device::ClusterRank(), device::Thread());
  device::SyncCluster();
}
FUSEDNORM_KERNEL(kThreads, 1) ClusterBlockSync(const ToyArgs) {
  SetOwn();
  device::SyncBlock();
  Numbers().GetFrom(1 - device::ClusterRank(), device::Thread());
  device::SyncCluster();
}
FUSEDNORM_KERNEL(kThreads, 1) ClusterEndsEarly(const ToyArgs) {
  SetOwn();
  device::SyncCluster();
  Numbers().GetFrom(1 - device::ClusterRank(), device::Thread());
}
FUSEDNORM_KERNEL(kThreads, 1) ClusterFirstReads(const ToyArgs) {
  SetOwn();
  device::SyncCluster();
  if (device::ClusterRank() == 0) Numbers().GetFrom(1, device::Thread());
}
FUSEDNORM_KERNEL(kThreads, 1) ClusterLastReads(const ToyArgs) {
  SetOwn();
  device::SyncCluster();
  if (device::ClusterRank() == 1) Numbers().GetFrom(0, device::Thread());
}
FUSEDNORM_KERNEL(kThreads, 1) ClusterOverwrites(const ToyArgs) {
  SetOwn();
  device::SyncCluster();
  Numbers().GetFrom(1 - device::ClusterRank(), device::Thread());
  device::SyncBlock();
  SetOwn();
  device::SyncCluster();
}
FUSEDNORM_KERNEL(kThreads, 1) ClusterUninitialised(const ToyArgs) {
  if (device::ClusterRank() == 0) SetOwn();
  device::SyncCluster();
  Numbers().GetFrom(1, device::Thread());
  device::SyncCluster();
}
FUSEDNORM_KERNEL(kThreads, 1) ClusterBeyond(const ToyArgs) {
  SetOwn();
  device::SyncCluster();
  Numbers().GetFrom(device::ClusterRank() + 1, device::Thread());
  device::SyncCluster();
}
FUSEDNORM_KERNEL(kThreads, 1) ClusterBlockEnds(const ToyArgs) {
  if (device::ClusterRank() == 1) return;
  device::SyncCluster();
}
FUSEDNORM_KERNEL(kThreads, 1) Nothing(const ToyArgs) {}

// ---------- blocks that exchange data

int64_t PlaceOf(int64_t block) { return block * kThreads + device::Thread(); }
// The sum of these numbers depends on the order in which it is taken.
void PublishOwn(const ToyArgs& args) {
  device::Publish(args.words + PlaceOf(device::Block()),
                  1.f / static_cast<float>(3 + PlaceOf(device::Block())));
}
void FetchAll(const ToyArgs& args, int64_t blocks) {
  float sum = 0;
  for (int64_t block = 0; block < blocks; ++block) {
    sum += device::Fetch(args.words + PlaceOf(block));
  }
  SetOut(args, sum);
}
// Returns to all threads of the block what thread 0 makes.
template <class Make>
uint32_t ForAll(const Make& make) {
  const device::Shared<uint32_t> shared(0);
  device::SyncBlock();
  if (device::Thread() == 0) shared.Set(0, make());
  device::SyncBlock();
  return shared.Get(0);
}
// The ticket takes the first two counters.
uint32_t TakeTicket(const ToyArgs& args) {
  return static_cast<uint32_t>(
      device::TakeTicket(reinterpret_cast<uint64_t*>(args.counters)));
}
bool ComesLast(uint32_t* counter) {
  return ForAll([&] { return device::AddAcquireRelease(counter); }) ==
         device::Blocks() - 1;
}
void Await(const uint32_t* counter, uint32_t count) {
  while (device::LoadAcquire(counter) < count) device::BackOff();
}
void AwaitForAll(const uint32_t* counter, uint32_t count) {
  ForAll([&] {
    Await(counter, count);
    return 0;
  });
}

FUSEDNORM_KERNEL(kThreads, 1) LastAddsUp(const ToyArgs args) {
  PublishOwn(args);
  if (ComesLast(args.counters)) FetchAll(args, device::Blocks());
}
// Leaves the number of tickets that one block got.
FUSEDNORM_KERNEL(kThreads, 1) Tickets(const ToyArgs args) {
  for (;;) {
    const uint32_t ticket = ForAll([&] { return TakeTicket(args); });
    if (ticket >= kTickets) break;
    if (device::Thread() == 0) {
      const uint32_t before = device::Fetch(args.seen + ticket);
      device::Publish(args.seen + ticket, before + 1);
    }
  }
  if (!ComesLast(args.counters + 2) || device::Thread() > 0) return;
  for (int i = 0; i < kTickets; ++i) *args.out += device::Fetch(args.seen + i) == 1;
}
// Works like the blocks of a kernel with a queue. The first tickets bring numbers; each
// later ticket waits for all of these.
FUSEDNORM_KERNEL(kThreads, 1) Queue(const ToyArgs args) {
  const uint32_t numbers = kMostBlocks;
  for (;;) {
    const uint32_t ticket = ForAll([&] { return TakeTicket(args); });
    if (ticket >= 2 * numbers) return;
    if (ticket < numbers) {
      device::Publish(args.words + PlaceOf(ticket),
                      1.f / static_cast<float>(3 + PlaceOf(ticket)));
      device::SyncBlock();
      if (device::Thread() == 0) device::AddRelease(args.counters + 2);
    } else {
      AwaitForAll(args.counters + 2, numbers);
      if (ticket == numbers) FetchAll(args, numbers);
    }
  }
}
// All blocks have to run at the same time.
FUSEDNORM_KERNEL(kThreads, 1) GridBarrier(const ToyArgs args) {
  PublishOwn(args);
  device::SyncBlock();
  if (device::Thread() == 0) device::AddRelease(args.counters);
  AwaitForAll(args.counters, static_cast<uint32_t>(device::Blocks()));
  if (device::Block() == 0) FetchAll(args, device::Blocks());
}
// Thread 0 publishes and fetches, without barriers.
FUSEDNORM_KERNEL(kThreads, 1) FirstTellsFirst(const ToyArgs args) {
  if (device::Thread() != 0) return;
  PublishOwn(args);
  if (device::AddAcquireRelease(args.counters) == device::Blocks() - 1) {
    FetchAll(args, device::Blocks());
  }
}
FUSEDNORM_KERNEL(kThreads, 1) LastLoads(const ToyArgs args) {
  PublishOwn(args);
  if (!ComesLast(args.counters)) return;
  SetOut(args,
         device::Load(args.words + PlaceOf(0)) + device::Load(args.words + PlaceOf(1)));
}
// Block 0 tells block 1, which tells block 2. So block 2 knows what block 0 wrote, too.
FUSEDNORM_KERNEL(kThreads, 1) Chain(const ToyArgs args) {
  const int64_t block = device::Block();
  if (block > 0) AwaitForAll(args.counters + block - 1, 1);
  if (block == 2) return FetchAll(args, 2);
  PublishOwn(args);
  device::SyncBlock();
  if (device::Thread() == 0) device::AddRelease(args.counters + block);
}
FUSEDNORM_KERNEL(kThreads, 1) SharedIntegers(const ToyArgs args) {
  const device::Shared<int> integers(0);
  const device::Shared<device::Words> words(4 * kThreads);
  const int thread = device::Thread();
  integers.Set(thread, -thread);
  if (thread < 4) words.Set(thread, {{1, 2, 3, static_cast<uint32_t>(thread)}});
  device::SyncBlock();
  const uint32_t last = words.GetAgain(3).word[3];
  SetOut(args, static_cast<float>(device::Uniform(integers.GetAgain(5)) +
                                  device::Opaque(static_cast<int>(last))));
}

FUSEDNORM_KERNEL(kThreads, 1) NeverAnnounced(const ToyArgs args) {
  PublishOwn(args);
  if (device::Block() > 0) AwaitForAll(args.counters, 1);
}
FUSEDNORM_KERNEL(kThreads, 1) PollsOnly(const ToyArgs args) {
  while (device::Thread() == 0 && device::LoadAcquire(args.counters) == 0) {
  }
}
FUSEDNORM_KERNEL(kThreads, 1) FetchesOnly(const ToyArgs args) {
  while (device::Thread() == 0 && device::Fetch(args.counters) == 0) {
  }
}
FUSEDNORM_KERNEL(kThreads, 1) EndsAtBarrier(const ToyArgs args) {
  if (device::Thread() == 40) return;
  AwaitForAll(args.counters, 0);
}
FUSEDNORM_KERNEL(kThreads, 1) ShufflesAtBarrier(const ToyArgs args) {
  if (device::Thread() == 0) Await(args.counters, 0);
  if (device::Thread() < 7) device::ShuffleXor(1.f, 1);
  device::SyncBlock();
}
FUSEDNORM_KERNEL(kThreads, 1) NoRelease(const ToyArgs args) {
  PublishOwn(args);
  const uint32_t before = ForAll([&] { return TakeTicket(args); });
  if (before == device::Blocks() - 1) FetchAll(args, device::Blocks());
}
FUSEDNORM_KERNEL(kThreads, 1) NoAcquire(const ToyArgs args) {
  PublishOwn(args);
  device::SyncBlock();
  if (device::Thread() == 0) device::AddRelease(args.counters);
  ForAll([&] {
    while (device::Fetch(args.counters) < device::Blocks()) device::BackOff();
    return 0;
  });
  FetchAll(args, device::Blocks());
}
FUSEDNORM_KERNEL(kThreads, 1) NoBarrierBeforeRelease(const ToyArgs args) {
  PublishOwn(args);
  if (device::Thread() == 0) device::AddRelease(args.counters);
  AwaitForAll(args.counters, static_cast<uint32_t>(device::Blocks()));
  FetchAll(args, device::Blocks());
}
FUSEDNORM_KERNEL(kThreads, 1) NoBarrierAfterAcquire(const ToyArgs args) {
  PublishOwn(args);
  device::SyncBlock();
  if (device::Thread() == 0) {
    device::AddRelease(args.counters);
    Await(args.counters, static_cast<uint32_t>(device::Blocks()));
  }
  device::ShuffleXor(0.f, 1);  // does not order other accesses
  if (device::Thread() < 32) FetchAll(args, device::Blocks());
}
FUSEDNORM_KERNEL(kThreads, 1) PublishAfterRelease(const ToyArgs args) {
  if (device::Thread() != 0) return;
  device::AddRelease(args.counters);
  PublishOwn(args);
  Await(args.counters, static_cast<uint32_t>(device::Blocks()));
  FetchAll(args, device::Blocks());
}
FUSEDNORM_KERNEL(kThreads, 1) NoWait(const ToyArgs args) {
  PublishOwn(args);
  FetchAll(args, device::Blocks());
}
FUSEDNORM_KERNEL(kThreads, 1) LoadsWithoutRelease(const ToyArgs args) {
  PublishOwn(args);
  const uint32_t before = ForAll([&] { return TakeTicket(args); });
  if (before == 1) device::Load(args.words + PlaceOf(1 - device::Block()));
}
FUSEDNORM_KERNEL(kThreads, 1) LoadsAsConstant(const ToyArgs args) {
  PublishOwn(args);
  if (ComesLast(args.counters)) device::LoadConstantWords(args.words);
}
FUSEDNORM_KERNEL(kThreads, 1) FetchesOfNeighbour(const ToyArgs args) {
  PublishOwn(args);
  device::Fetch(args.words + (PlaceOf(device::Block()) ^ 1));
}
FUSEDNORM_KERNEL(kThreads, 1) BlocksPublishOne(const ToyArgs args) {
  device::Publish(args.words + device::Thread(), 1.f);
}
FUSEDNORM_KERNEL(kThreads, 1) ThreadsPublishOne(const ToyArgs args) {
  device::Publish(args.words + PlaceOf(device::Block()) / 2, 1.f);
}
FUSEDNORM_KERNEL(kThreads, 1) PublishesAgain(const ToyArgs args) {
  PublishOwn(args);
  if (!ComesLast(args.counters)) {
    AwaitForAll(args.counters + 1, 1);
    return PublishOwn(args);
  }
  FetchAll(args, device::Blocks());
  device::SyncBlock();
  if (device::Thread() == 0) device::AddRelease(args.counters + 1);
}
FUSEDNORM_KERNEL(kThreads, 1) OtherThreadReleases(const ToyArgs args) {
  if (device::Thread() == 32) device::AddRelease(args.counters);
}
FUSEDNORM_KERNEL(kThreads, 1) OtherThreadAcquires(const ToyArgs args) {
  if (device::Thread() == 32) device::LoadAcquire(args.counters);
}
// Another block may add between the addition and the load. Then two blocks come last.
FUSEDNORM_KERNEL(kThreads, 1) TwoComeLast(const ToyArgs args) {
  const uint32_t seen = ForAll([&] {
    device::AddRelease(args.counters);
    return device::LoadAcquire(args.counters);
  });
  if (seen == device::Blocks()) device::Publish(args.words + device::Thread(), 1.f);
}
FUSEDNORM_KERNEL(kThreads, 1) Traps(const ToyArgs) {
  if (device::Thread() == 9) device::Trap();
}
FUSEDNORM_KERNEL(kThreads, 1) NotUniform(const ToyArgs) {
  device::Uniform(device::Thread() / 16);
}
FUSEDNORM_KERNEL(kThreads, 1) BacksOff(const ToyArgs) { device::BackOff(); }
FUSEDNORM_KERNEL(kThreads, 1) Acquires(const ToyArgs args) {
  device::LoadAcquire(args.counters);
}
FUSEDNORM_KERNEL(kThreads, 1) Releases(const ToyArgs args) {
  device::AddRelease(args.counters);
}
FUSEDNORM_KERNEL(kThreads, 1) TakesTicket(const ToyArgs args) { TakeTicket(args); }

struct Toy {
  Launch launch;
  void (*kernel)(ToyArgs);
};
constexpr Launch Waiting(const char* kernel, int64_t blocks) {
  Launch launch = {kernel, blocks, kThreads, 1, 2 * kBytes};
  launch.waits = true;
  return launch;
}
constexpr Launch WaitingCluster() {
  Launch launch = Waiting("WaitingCluster", 2);
  launch.cluster = 2;
  return launch;
}
constexpr Toy kToys[] = {
    {{"BlockSum", 1, kThreads, 1, kBytes}, BlockSum},
    {{"ClusterSum", 4, kThreads, 4, kBytes}, ClusterSum},
    {{"OtherHalf", 1, kThreads, 1, kBytes}, OtherHalf},
    {{"BlocksRace", 3, kThreads, 1, 0}, BlocksRace},
    {{"NoBarrier", 1, kThreads, 1, kBytes}, NoBarrier},
    {{"NoBarrierInWarp", 1, kThreads, 1, kBytes}, NoBarrierInWarp},
    {{"WriteAfterRead", 1, kThreads, 1, kBytes}, WriteAfterRead},
    {{"WriteAfterWrite", 1, kThreads, 1, kBytes}, WriteAfterWrite},
    {{"Uninitialised", 1, kThreads, 1, kBytes}, Uninitialised},
    {{"OutOfShared", 1, kThreads, 1, kBytes}, OutOfShared},
    {{"BeforeShared", 1, kThreads, 1, kBytes}, BeforeShared},
    {{"OddShared", 1, kThreads, 1, kBytes}, OddShared},
    {{"OutOfGlobal", 1, kThreads, 1, kBytes}, OutOfGlobal},
    {{"MisalignedLoad", 1, kThreads, 1, kBytes}, MisalignedLoad},
    {{"MisalignedStore", 1, kThreads, 1, kBytes}, MisalignedStore},
    {{"EndsBeforeBarrier", 1, kThreads, 1, kBytes}, EndsBeforeBarrier},
    {{"OtherBarrier", 1, kThreads, 1, kBytes}, OtherBarrier},
    {{"PartialShuffle", 1, kThreads, 1, kBytes}, PartialShuffle},
    {{"ShuffleAgainstBarrier", 1, kThreads, 1, kBytes}, ShuffleAgainstBarrier},
    {{"OtherMask", 1, kThreads, 1, kBytes}, OtherMask},
    {{"ClusterNoSync", 2, kThreads, 2, kBytes}, ClusterNoSync},
    {{"ClusterBlockSync", 2, kThreads, 2, kBytes}, ClusterBlockSync},
    {{"ClusterEndsEarly", 2, kThreads, 2, kBytes}, ClusterEndsEarly},
    {{"ClusterFirstReads", 2, kThreads, 2, kBytes}, ClusterFirstReads},
    {{"ClusterLastReads", 2, kThreads, 2, kBytes}, ClusterLastReads},
    {{"ClusterOverwrites", 2, kThreads, 2, kBytes}, ClusterOverwrites},
    {{"ClusterUninitialised", 2, kThreads, 2, kBytes}, ClusterUninitialised},
    {{"ClusterBeyond", 2, kThreads, 2, kBytes}, ClusterBeyond},
    {{"ClusterBlockEnds", 2, kThreads, 2, kBytes}, ClusterBlockEnds},
    {{"NoBlocks", 0, kThreads, 1, 0}, Nothing},
    {{"OddThreads", 1, 48, 1, 0}, Nothing},
    {{"ManyThreads", 1, 1056, 1, 0}, Nothing},
    {{"PartOfCluster", 3, kThreads, 2, 0}, Nothing},
    {Waiting("LastAddsUp", 7), LastAddsUp},
    {Waiting("Tickets", 5), Tickets},
    {Waiting("Queue", 5), Queue},
    {Waiting("GridBarrier", 4), GridBarrier},
    {Waiting("FirstTellsFirst", 7), FirstTellsFirst},
    {Waiting("LastLoads", 2), LastLoads},
    {Waiting("Chain", 3), Chain},
    {Waiting("SharedIntegers", 3), SharedIntegers},
    {Waiting("NeverAnnounced", 6), NeverAnnounced},
    {Waiting("PollsOnly", 2), PollsOnly},
    {Waiting("FetchesOnly", 2), FetchesOnly},
    {Waiting("EndsAtBarrier", 2), EndsAtBarrier},
    {Waiting("ShufflesAtBarrier", 2), ShufflesAtBarrier},
    {Waiting("NoRelease", 4), NoRelease},
    {Waiting("NoAcquire", 4), NoAcquire},
    {Waiting("NoBarrierBeforeRelease", 4), NoBarrierBeforeRelease},
    {Waiting("NoBarrierAfterAcquire", 4), NoBarrierAfterAcquire},
    {Waiting("PublishAfterRelease", 4), PublishAfterRelease},
    {Waiting("NoWait", 4), NoWait},
    {Waiting("LoadsWithoutRelease", 2), LoadsWithoutRelease},
    {Waiting("LoadsAsConstant", 2), LoadsAsConstant},
    {Waiting("FetchesOfNeighbour", 2), FetchesOfNeighbour},
    {Waiting("BlocksPublishOne", 2), BlocksPublishOne},
    {Waiting("ThreadsPublishOne", 2), ThreadsPublishOne},
    {Waiting("PublishesAgain", 3), PublishesAgain},
    {Waiting("OtherThreadReleases", 1), OtherThreadReleases},
    {Waiting("OtherThreadAcquires", 1), OtherThreadAcquires},
    {Waiting("TwoComeLast", 4), TwoComeLast},
    {Waiting("Traps", 2), Traps},
    {Waiting("NotUniform", 1), NotUniform},
    {WaitingCluster(), Nothing},
    {{"BacksOff", 1, kThreads, 1, 0}, BacksOff},
    {{"Acquires", 1, kThreads, 1, 0}, Acquires},
    {{"Releases", 1, kThreads, 1, 0}, Releases},
    {{"LastAddsUpAlone", 1, kThreads, 1, kBytes}, LastAddsUp},
    {{"TakesTicket", 1, kThreads, 1, 0}, TakesTicket},
};

template <class T>
T* Zeros(int64_t count) {
  return static_cast<T*>(std::calloc(static_cast<size_t>(count), sizeof(T)));
}

// Runs the kernel and returns the first number that it leaves.
double Run(const Toy& toy) {
  const ToyArgs args = {Zeros<float>(kThreads), Zeros<uint32_t>(3),
                        Zeros<float>(kMostBlocks * kThreads),
                        Zeros<uint32_t>(kTickets)};
  device::Launch(toy.kernel, toy.launch, nullptr, args);
  const double first = args.out[0];
  std::free(args.out);
  std::free(args.counters);
  std::free(args.words);
  std::free(args.seen);
  return first;
}

}  // namespace

extern "C" double fusednorm_toy(const char* name, int order, int resident) {
  emulation::SetOrder(static_cast<uint32_t>(order));
  emulation::SetResident(resident);
  for (const Toy& toy : kToys) {
    if (std::strcmp(toy.launch.kernel, name) == 0) return Run(toy);
  }
  std::fprintf(stderr, "no kernel %s\n", name);
  std::abort();
}

}  // namespace cuda
}  // namespace fusednorm
