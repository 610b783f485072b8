// Threads for callers that bring none of their own.
#pragma once

#include <algorithm>
#include <atomic>
#include <thread>
#include <vector>

#include "core/parallel.h"

namespace fusednorm {

// Starts its threads anew for each call: simple, and tens of microseconds are nothing
// against the tensors worth more than one thread.
class ThreadsParallelFor : public ParallelFor {
 public:
  explicit ThreadsParallelFor(int num_threads) : num_threads_(num_threads) {}

  void Run(int64_t count, int64_t, Body body, void* context) const override {
    const int64_t helpers = std::min<int64_t>(num_threads_, count) - 1;
    std::atomic<int64_t> next{0};
    const auto work = [&] {
      for (int64_t i = next++; i < count; i = next++) body(context, i, i + 1);
    };
    std::vector<std::thread> threads;
    for (int64_t i = 0; i < helpers; ++i) threads.emplace_back(work);
    work();
    for (std::thread& thread : threads) thread.join();
  }

 private:
  const int num_threads_;
};

}  // namespace fusednorm
