// Work that a caller shares with other threads, if they have time.
#pragma once

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>

#include "core/parallel.h"

namespace fusednorm {

// Waits until `ready` holds, as `condition.wait(lock, ready)` does. The symbol of that
// one is new in libstdc++ 12: with it, a wheel would not load on RHEL 9.
template <class Ready>
void Await(std::condition_variable* condition, std::unique_lock<std::mutex>* lock,
           const Ready& ready) {
  while (!condition->wait_for(*lock, std::chrono::hours(1), ready)) {
  }
}

// The range [0, count) in pieces, which helpers and the caller take one after the
// other. The caller never waits for pieces that no thread has begun, and a helper that
// comes late finds nothing left. Helpers may therefore be busy or few.
//
// Lives until the last helper has looked at it; `context` must live until Wait returns.
class SharedWork {
 public:
  SharedWork(ParallelFor::Body body, void* context, int64_t count, int64_t pieces)
      : body_(body), context_(context), count_(count), pieces_(pieces) {}

  void TakePieces() {
    int64_t taken = 0;
    for (int64_t i = next_++; i < pieces_; i = next_++, ++taken) {
      body_(context_, count_ * i / pieces_, count_ * (i + 1) / pieces_);
    }
    if (taken == 0) return;
    const std::lock_guard<std::mutex> lock(mutex_);
    done_ += taken;
    if (done_ == pieces_) all_done_.notify_one();
  }

  void Wait() {
    std::unique_lock<std::mutex> lock(mutex_);
    Await(&all_done_, &lock, [this] { return done_ == pieces_; });
  }

 private:
  const ParallelFor::Body body_;
  void* const context_;
  const int64_t count_;
  const int64_t pieces_;
  std::atomic<int64_t> next_{0};
  std::mutex mutex_;
  std::condition_variable all_done_;
  int64_t done_ = 0;
};

// Runs the range on this thread and on up to num_threads - 1 helpers. schedule(n,
// function) must make n other threads call the function at some time.
template <class Schedule>
void RunShared(int64_t num_threads, int64_t count, int64_t elements,
               ParallelFor::Body body, void* context, Schedule&& schedule) {
  // The more pieces there are, the shorter one thread waits for another.
  constexpr int64_t kPiecesPerThread = 4;
  const int64_t pieces = std::min(
      {count, num_threads * kPiecesPerThread, count * elements / kWorthAThread});
  if (num_threads <= 1 || pieces <= 1) return body(context, 0, count);
  const auto work = std::make_shared<SharedWork>(body, context, count, pieces);
  const int64_t helpers = std::min(num_threads, pieces) - 1;
  schedule(helpers, [work] { work->TakePieces(); });
  work->TakePieces();
  work->Wait();
}

}  // namespace fusednorm
