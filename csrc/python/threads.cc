#include "python/threads.h"

#include <unistd.h>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <deque>
#include <functional>
#include <mutex>
#include <thread>

#include "core/shared_work.h"

namespace fusednorm {
namespace {

class Helpers {
 public:
  // The process's. Never destroyed: its threads may outlive everything static.
  static Helpers& Get() {
    static std::mutex mutex;
    static Helpers* helpers = nullptr;
    const std::lock_guard<std::mutex> lock(mutex);
    // A forked child has none of the threads of its parent.
    if (helpers == nullptr || helpers->process_ != getpid()) helpers = new Helpers;
    return *helpers;
  }

  // Has so many of them call the function.
  void Schedule(int64_t count, const std::function<void()>& function) {
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      for (; started_ < count; ++started_) std::thread([this] { Work(); }).detach();
      queue_.insert(queue_.end(), count, function);
      queued_ += count;
    }
    wake_.notify_all();
  }

 private:
  void Work() {
    for (;;) {
      WaitAwake();
      std::function<void()> function;
      {
        std::unique_lock<std::mutex> lock(mutex_);
        Await(&wake_, &lock, [this] { return !queue_.empty(); });
        function = std::move(queue_.front());
        queue_.pop_front();
        --queued_;
      }
      function();
    }
  }

  // For as long as waking up takes: the next phase of the same call follows soon.
  void WaitAwake() const {
    const auto end = std::chrono::steady_clock::now() + kAwake;
    while (queued_ == 0 && std::chrono::steady_clock::now() < end) {
    }
  }

  static constexpr std::chrono::microseconds kAwake{50};

  const pid_t process_ = getpid();
  std::mutex mutex_;
  std::condition_variable wake_;
  std::deque<std::function<void()>> queue_;
  std::atomic<int64_t> queued_{0};
  int64_t started_ = 0;
};

}  // namespace

void ThreadsParallelFor::Run(int64_t count, int64_t elements, Body body,
                             void* context) const {
  RunShared(num_threads_, count, elements, body, context,
            [](int64_t helpers, const auto& help) {
              Helpers::Get().Schedule(helpers, help);
            });
}

}  // namespace fusednorm
