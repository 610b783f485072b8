// The functions of cuda/kernels/common/device.cuh and cuda/kernels/common/launch.cuh
// for the CPU, where threads are fibers (grid.h).
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <string>
#include <tuple>

#include "core/status.h"
#include "cuda/device/stream.h"
#include "cuda/plan/plan.h"
#include "emulation/grid.h"

#define FUSEDNORM_KERNEL(threads, blocks) void
#define FUSEDNORM_DEVICE inline
#define FUSEDNORM_DEVICE_CALL inline

namespace fusednorm {
namespace cuda {
namespace device {

constexpr int kWarp = 32;

inline int Thread() { return emulation::Current().thread; }
inline int Threads() { return emulation::Current().threads; }
inline int64_t Block() { return emulation::Current().block; }
inline int64_t Blocks() { return emulation::Current().blocks; }
inline int ClusterRank() { return emulation::Current().rank; }

inline void SyncBlock() { emulation::Wait(emulation::Barrier::kBlock); }
inline void SyncCluster() { emulation::Wait(emulation::Barrier::kCluster); }

template <class T>
T ShuffleXor(T value, int mask) {
  uint64_t bits = 0;
  std::memcpy(&bits, &value, sizeof(T));
  bits = emulation::Exchange(bits, mask);
  std::memcpy(&value, &bits, sizeof(T));
  return value;
}

template <class T>
T ShuffleFrom(T value, int lane) {
  uint64_t bits = 0;
  std::memcpy(&bits, &value, sizeof(T));
  bits = emulation::ExchangeFrom(bits, lane);
  std::memcpy(&value, &bits, sizeof(T));
  return value;
}

inline int Uniform(int value) {
  if (ShuffleFrom(value, 0) != value) {
    emulation::Fail("calls Uniform with another value than lane 0");
  }
  return value;
}
inline int64_t Uniform(int64_t value) {
  const int low = Uniform(static_cast<int>(value));
  const int high = Uniform(static_cast<int>(value >> 32));
  return int64_t{high} << 32 | static_cast<uint32_t>(low);
}
inline int Opaque(int value) { return value; }

struct alignas(16) Words {
  uint32_t word[4];
};

template <class T>
class Shared {
 public:
  explicit Shared(int64_t offset) : offset_(offset) {}

  T Get(int64_t i) const {
    T value;
    std::memcpy(&value, emulation::SharedForRead(At(i), sizeof(T)), sizeof(T));
    return value;
  }
  T GetAgain(int64_t i) const { return Get(i); }
  void Set(int64_t i, T value) const {
    std::memcpy(emulation::SharedForWrite(At(i), sizeof(T)), &value, sizeof(T));
  }
  T GetFrom(int rank, int64_t i) const {
    T value;
    std::memcpy(&value, emulation::SharedForRemoteRead(rank, At(i), sizeof(T)),
                sizeof(T));
    return value;
  }

 private:
  int64_t At(int64_t i) const { return offset_ + i * int64_t{sizeof(T)}; }
  const int64_t offset_;
};

template <class T>
T* Pinned(T* pointer) {
  return pointer;
}

template <class T>
T Load(const T* from) {
  if (emulation::blocks_wait) emulation::CheckLoad(from, sizeof(T), false);
  return *from;
}
template <class T>
void Store(T* to, T value) {
  *to = value;
}
inline Words LoadWords(const void* from, bool constant = false) {
  emulation::CheckAligned(from);
  if (emulation::blocks_wait) emulation::CheckLoad(from, sizeof(Words), constant);
  Words words;
  std::memcpy(&words, from, sizeof(words));
  return words;
}
inline Words LoadWordsOnce(const void* from) { return LoadWords(from); }
inline Words LoadConstantWords(const void* from) { return LoadWords(from, true); }
inline void StoreWords(void* to, const Words& words, bool) {
  emulation::CheckAligned(to);
  std::memcpy(to, &words, sizeof(words));
}

template <class T>
T Fetch(const T* from) {
  emulation::BeforeFetch(from, sizeof(T));
  return *from;
}
template <class T>
void Publish(T* to, T value) {
  emulation::BeforePublish(to, sizeof(T));
  *to = value;
}
inline uint64_t TakeTicket(uint64_t* counter) {
  emulation::BeforeAtomic(emulation::Atomic::kTicket, counter);
  return (*counter)++;
}
inline uint32_t LoadAcquire(const uint32_t* from) {
  emulation::BeforeAtomic(emulation::Atomic::kAcquire, from);
  return *from;
}
inline void AddRelease(uint32_t* to) {
  emulation::BeforeAtomic(emulation::Atomic::kRelease, to);
  ++*to;
}
inline uint32_t AddAcquireRelease(uint32_t* to) {
  emulation::BeforeAtomic(emulation::Atomic::kAcquireRelease, to);
  return (*to)++;
}
inline void BackOff() { emulation::BackOff(); }
inline void Trap() { emulation::Fail("calls Trap"); }

template <class... Args>
Status Launch(void (*kernel)(Args...), const cuda::Launch& launch, Stream,
              const Args&... args) {
  struct Call {
    void (*kernel)(Args...);
    const std::tuple<const Args&...> args;
  } call = {kernel, {args...}};
  emulation::RunGrid(
      launch, reinterpret_cast<void*>(kernel),
      [](void* context) {
        const Call& call = *static_cast<Call*>(context);
        std::apply(call.kernel, call.args);
      },
      &call);
  return Status();
}

inline Status FillBytes(void* to, int byte, int64_t count, Stream) {
  std::memset(to, byte, static_cast<size_t>(count));
  return Status();
}

}  // namespace device
}  // namespace cuda
}  // namespace fusednorm
