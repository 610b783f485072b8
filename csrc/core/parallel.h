// Threads belong to the caller (TensorFlow's intra-op pool, XLA's, the Python
// module's). Kernels get them as a ParallelFor. It takes a plain function pointer, not
// std::function, so that files compiled for one instruction set emit no code that
// others might share.
#pragma once

#include <cstdint>
#include <type_traits>

#include "core/portability.h"

namespace fusednorm {

// To wake another thread takes about as long as to process this many elements.
constexpr int64_t kWorthAThread = 65536;

class ParallelFor {
 public:
  using Body = void (*)(void* context, int64_t begin, int64_t end);

  virtual ~ParallelFor() = default;

  // Calls body(context, begin, end) over disjoint ranges that cover [0, count), from
  // any threads, and returns when all are done. `elements` is the work of one index, in
  // tensor elements. Results must not depend on how the range is cut.
  virtual void Run(int64_t count, int64_t elements, Body body, void* context) const = 0;

  // Calls function(index) for every index of [0, count).
  template <class Function>
  FUSEDNORM_INLINE void Each(int64_t count, int64_t elements,
                             Function&& function) const {
    Run(
        count, elements,
        [](void* context, int64_t begin, int64_t end) {
          auto& call = *static_cast<std::remove_reference_t<Function>*>(context);
          for (int64_t index = begin; index < end; ++index) call(index);
        },
        &function);
  }
};

}  // namespace fusednorm
