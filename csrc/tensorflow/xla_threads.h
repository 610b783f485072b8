// XLA's threads on the CPU for our kernels.
#pragma once

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>

#include "core/parallel.h"
#include "xla/ffi/api/ffi.h"

namespace fusednorm {

// The caller may itself be a thread of the pool, and so may all the others that run a
// norm at this moment. It therefore never waits for work that nobody has begun: it
// takes that itself, and a task that comes late finds nothing left.
class XlaParallelFor : public ParallelFor {
 public:
  explicit XlaParallelFor(xla::ffi::ThreadPool pool)
      : pool_(pool), num_threads_(pool.num_threads()) {}

  void Run(int64_t count, int64_t elements, Body body, void* context) const override {
    // The more pieces, the less does one thread wait for another.
    constexpr int64_t kPiecesPerThread = 4;
    const int64_t pieces = std::min(
        {count, num_threads_ * kPiecesPerThread, count * elements / kWorthAThread});
    if (num_threads_ <= 1 || pieces <= 1) return body(context, 0, count);
    const auto work = std::make_shared<Work>(body, context, count, pieces);
    const int64_t helpers = std::min(num_threads_, pieces) - 1;
    for (int64_t i = 0; i < helpers; ++i) {
      pool_.Schedule([work] { work->TakePieces(); });
    }
    work->TakePieces();
    work->Wait();
  }

 private:
  // Lives until the last task has looked at it; `context` only until Run returns.
  class Work {
   public:
    Work(Body body, void* context, int64_t count, int64_t pieces)
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
      all_done_.wait(lock, [this] { return done_ == pieces_; });
    }

   private:
    const Body body_;
    void* const context_;
    const int64_t count_;
    const int64_t pieces_;
    std::atomic<int64_t> next_{0};
    std::mutex mutex_;
    std::condition_variable all_done_;
    int64_t done_ = 0;
  };

  mutable xla::ffi::ThreadPool pool_;
  const int64_t num_threads_;
};

}  // namespace fusednorm
