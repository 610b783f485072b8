// A stack to run code on, and the switch to it and back.
#pragma once

#include <cstddef>

namespace fusednorm {
namespace cuda {
namespace emulation {

class Fiber {
 public:
  Fiber();
  ~Fiber();
  Fiber(const Fiber&) = delete;
  Fiber& operator=(const Fiber&) = delete;

  // Prepares the fiber to call entry(argument) when it is resumed for the first time.
  void Start(void (*entry)(void*), void* argument);
  // Runs the fiber until it calls Suspend or its entry returns.
  void Resume();
  // Goes back to the code that resumed the running fiber.
  void Suspend();
  bool done() const { return done_; }

 private:
  static void Main(Fiber* fiber);
  friend void FiberMain(void* fiber);

  char* stack_;
  char* top_;                // where the stack begins: stacks grow downwards
  void* context_ = nullptr;  // stack pointer of the fiber; of its resumer while it runs
  void (*entry_)(void*) = nullptr;
  void* argument_ = nullptr;
  bool done_ = true;
};

}  // namespace emulation
}  // namespace cuda
}  // namespace fusednorm
