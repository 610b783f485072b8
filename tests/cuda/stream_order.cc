// Prints the items of a `stream` launch in the order in which blocks take them, a line
// each: whether it is an apply, its set, and its slab among those of all sets. The
// arguments: sets, slabs of a set, lag, whether apply goes backwards.
#include <cinttypes>
#include <cstdio>
#include <cstdlib>

#include "cuda/kernels/stream/order.h"

int main(int, char** arguments) {
  using fusednorm::cuda::Item;
  using fusednorm::cuda::ItemKind;
  fusednorm::cuda::StreamOrder order;
  const int slabs = std::atoi(arguments[2]);
  order.sets = std::atoi(arguments[1]);
  order.slabs = fusednorm::cuda::Divider(slabs);
  order.lag = std::atoi(arguments[3]);
  order.backwards = std::atoi(arguments[4]) != 0;
  for (int64_t ticket = 0; ticket < order.items(); ++ticket) {
    const Item item = order.ItemOf(ticket);
    std::printf("%d %" PRId64 " %" PRId64 "\n", item.kind == ItemKind::kApply, item.set,
                item.set * slabs + item.slab);
  }
}
