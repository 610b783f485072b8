// TensorFlow's threads flush subnormals to zero, those of other callers do not. The
// kernels keep subnormals, so that results depend neither on the thread nor on the
// caller.
//
// Included only by kernels.cc, inside its per-instruction-set namespace.
#pragma once

class DefaultFloatEnvironment {
 public:
#if defined(__x86_64__)
  FUSEDNORM_INLINE DefaultFloatEnvironment() : saved_(_mm_getcsr()) {
    constexpr unsigned kDefault =
        0x1f80;  // round to nearest, subnormals kept, no traps
    _mm_setcsr(kDefault);
  }
  FUSEDNORM_INLINE ~DefaultFloatEnvironment() { _mm_setcsr(saved_); }

 private:
  const unsigned saved_;
#elif defined(__aarch64__)
  FUSEDNORM_INLINE DefaultFloatEnvironment() {
    __asm__ volatile("mrs %0, fpcr" : "=r"(saved_));
    __asm__ volatile("msr fpcr, %0" : : "r"(uint64_t{0}));
  }
  FUSEDNORM_INLINE ~DefaultFloatEnvironment() {
    __asm__ volatile("msr fpcr, %0" : : "r"(saved_));
  }

 private:
  uint64_t saved_;
#else
  FUSEDNORM_INLINE DefaultFloatEnvironment() {}
#endif
};

// Calls function(task) for every task of [0, count), on the caller's threads.
template <class Function>
FUSEDNORM_INLINE void ForEachTask(const ParallelFor& parallel, int64_t count,
                                  int64_t elements, Function&& function) {
  parallel.Each(count, elements, [&](int64_t task) {
    const DefaultFloatEnvironment environment;
    function(task);
  });
}
