#include "emulation/fiber.h"

#include <sys/mman.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#endif
#if !defined(__x86_64__)
#include <ucontext.h>
#endif

namespace fusednorm {
namespace cuda {
namespace emulation {
namespace {

// AddressSanitizer is not told of the switches, which would take most of their time. It
// needs them for exceptions, which no kernel throws, and to describe an address on a
// stack.
//
// So large because debug frames under AddressSanitizer are large.
constexpr size_t kStackBytes = 256 << 10;
// More than is taken by the frames from which a thread does not return: Main and its
// callers.
constexpr size_t kMainBytes = 4 << 10;
// Stacks that all begin at the same place of a page would share a few lines of the
// caches. So they begin at different ones.
constexpr size_t kCacheLine = 64;
constexpr size_t kBeginnings = 1024;
size_t fibers_made = 0;

#if defined(__x86_64__)
// Pushes the registers that the ABI preserves, swaps *saved with the stack pointer,
// pops.
asm(R"(
.text
.type fusednorm_switch_stack, @function
fusednorm_switch_stack:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq (%rdi), %rax
  movq %rsp, (%rdi)
  movq %rax, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
)");
extern "C" void fusednorm_switch_stack(void** saved);

Fiber* starting;

void Trampoline() {
  Fiber* fiber = starting;
  FiberMain(fiber);
}
#else
struct Contexts {
  ucontext_t fiber, resumer;
  bool inside = false;
};
Fiber* starting;
void Trampoline() { FiberMain(starting); }
#endif

}  // namespace

void FiberMain(void* fiber) { Fiber::Main(static_cast<Fiber*>(fiber)); }

Fiber::Fiber() {
  void* memory = mmap(nullptr, kStackBytes, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) {
    std::perror("emulation: no memory for a stack");
    std::abort();
  }
  stack_ = static_cast<char*>(memory);
  // Neighbours are an odd number of lines apart, and more than their first frames take.
  top_ = stack_ + kStackBytes - fibers_made++ * 17 % kBeginnings * kCacheLine;
#if !defined(__x86_64__)
  context_ = new Contexts;
#endif
}

Fiber::~Fiber() {
#if !defined(__x86_64__)
  delete static_cast<Contexts*>(context_);
#endif
  munmap(stack_, kStackBytes);
}

void Fiber::Start(void (*entry)(void*), void* argument) {
  entry_ = entry;
  argument_ = argument;
  done_ = false;
#if defined(__SANITIZE_ADDRESS__)
  // The previous thread on this stack has returned from its kernel, but not from Main
  // and its callers. Only this part is cleared: the shadow of all stacks would not fit
  // a cache.
  __asan_unpoison_memory_region(top_ - kMainBytes, kMainBytes);
#endif
#if defined(__x86_64__)
  // What the first switch pops: six registers and the address to go to. The stack is
  // 16-byte aligned as it is after a call.
  uint64_t* top = reinterpret_cast<uint64_t*>(top_) - 1;
  *--top = reinterpret_cast<uint64_t>(&Trampoline);
  for (int i = 0; i < 6; ++i) *--top = 0;
  context_ = top;
#else
  Contexts* contexts = static_cast<Contexts*>(context_);
  getcontext(&contexts->fiber);
  contexts->fiber.uc_stack.ss_sp = stack_;
  contexts->fiber.uc_stack.ss_size = top_ - stack_;
  contexts->fiber.uc_link = nullptr;
  makecontext(&contexts->fiber, Trampoline, 0);
#endif
}

void Fiber::Resume() {
  starting = this;
#if defined(__x86_64__)
  fusednorm_switch_stack(&context_);
#else
  Contexts* contexts = static_cast<Contexts*>(context_);
  swapcontext(&contexts->resumer, &contexts->fiber);
#endif
}

void Fiber::Suspend() {
#if defined(__x86_64__)
  fusednorm_switch_stack(&context_);
#else
  Contexts* contexts = static_cast<Contexts*>(context_);
  swapcontext(&contexts->fiber, &contexts->resumer);
#endif
}

void Fiber::Main(Fiber* fiber) {
  fiber->entry_(fiber->argument_);
  fiber->done_ = true;
  fiber->Suspend();
  std::abort();  // a fiber that is done must not be resumed
}

}  // namespace emulation
}  // namespace cuda
}  // namespace fusednorm
