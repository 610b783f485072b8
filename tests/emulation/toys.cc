// Small kernels, most of them wrong in one way: test_harness.py holds the emulation to
// finding each.
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "cuda/kernels/common/device.cuh"

namespace fusednorm {
namespace cuda {
namespace {

constexpr int kThreads = 64;
constexpr int64_t kBytes = 4 * kThreads;

struct ToyArgs {
  float* out;  // kThreads numbers, aligned
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
  for (int rank = 0; rank < device::ClusterBlocks(); ++rank) {
    sum += Numbers().GetFrom(rank, device::Thread());
  }
  if (device::ClusterRank() == 0) SetOut(args, sum);
  device::SyncCluster();
}
// Halves of one word: the shadow knows whole words only, so that what stands in for a
// number that nobody wrote has to show.
FUSEDNORM_KERNEL(kThreads, 1) OtherHalf(const ToyArgs args) {
  const device::Shared<uint16_t> halves(0);
  halves.Set(2 * device::Thread(), 0);
  SetOut(args, static_cast<float>(halves.Get(2 * device::Thread() + 1)));
}
// A number that depends on which block comes first.
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
  device::ShuffleXor(0.f, 1);  // orders nothing
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

struct Toy {
  Launch launch;
  void (*kernel)(ToyArgs);
};
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
};

}  // namespace

// Runs the kernel and returns the first number that it has left.
extern "C" double fusednorm_toy(const char* name, int order) {
  emulation::SetOrder(static_cast<uint32_t>(order));
  for (const Toy& toy : kToys) {
    if (std::strcmp(toy.launch.kernel, name) != 0) continue;
    float* out = static_cast<float*>(std::calloc(kThreads, sizeof(float)));
    device::Launch(toy.kernel, toy.launch, nullptr, ToyArgs{out});
    const double first = out[0];
    std::free(out);
    return first;
  }
  std::fprintf(stderr, "no kernel %s\n", name);
  std::abort();
}

}  // namespace cuda
}  // namespace fusednorm
