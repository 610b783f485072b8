// XLA's threads on the CPU for our kernels.
#pragma once

#include <cstdint>
#include <utility>

#include "core/shared_work.h"
#include "xla/ffi/api/ffi.h"

namespace fusednorm {

// The caller may itself be a thread of the pool, and so may all the others that run a
// norm at this moment; see SharedWork.
class XlaParallelFor : public ParallelFor {
 public:
  explicit XlaParallelFor(xla::ffi::ThreadPool pool)
      : pool_(pool), num_threads_(pool.num_threads()) {}

  void Run(int64_t count, int64_t elements, Body body, void* context) const override {
    RunShared(num_threads_, count, elements, body, context,
              [this](int64_t helpers, const auto& help) {
                for (int64_t i = 0; i < helpers; ++i) {
                  auto each = help;
                  pool_.Schedule(std::move(each));
                }
              });
  }

 private:
  mutable xla::ffi::ThreadPool pool_;
  const int64_t num_threads_;
};

}  // namespace fusednorm
