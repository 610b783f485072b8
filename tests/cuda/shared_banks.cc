// Counts the bank conflicts of LaneTable (cuda/kernels/lines/shared_layout.h) for every
// way in which a block's threads may lie. Prints, for each: threads, numbers of a
// thread, columns, and the most numbers that one bank gives in a write of a warp and in
// a read; with the argument "plain", of a table without padding. Ends with 1 where two
// numbers share a place or one is beyond the table.
#include <algorithm>
#include <array>
#include <cstdio>
#include <set>
#include <vector>

#include "cuda/kernels/lines/shared_layout.h"

namespace {

using fusednorm::cuda::LaneTable;
constexpr int kWarp = 32, kBanks = 32;

int MostOfABank(const std::vector<int>& places) {
  std::array<int, kBanks> count = {};
  for (const int place : places) ++count[place % kBanks];
  return *std::max_element(count.begin(), count.end());
}

struct Conflicts {
  int writes = 0, reads = 0;
  bool sound = true;
};

template <class At>
Conflicts Count(int threads, int each, int columns, int64_t size, const At& at) {
  Conflicts conflicts;
  const int rows = threads / columns;
  std::set<int> taken;
  // A warp writes number e of each of its threads.
  for (int e = 0; e < each; ++e) {
    for (int first = 0; first < rows * columns; first += kWarp) {
      std::vector<int> places;
      for (int i = first; i < std::min(first + kWarp, rows * columns); ++i) {
        places.push_back(at(i / columns, e, i % columns));
        conflicts.sound &= taken.insert(places.back()).second && places.back() < size;
      }
      conflicts.writes = std::max(conflicts.writes, MostOfABank(places));
    }
  }
  // A warp reads neighbouring lanes of a row of threads.
  for (int row = 0; row < rows; ++row) {
    for (int first = 0; first < each * columns; first += kWarp) {
      std::vector<int> places;
      for (int i = first; i < std::min(first + kWarp, each * columns); ++i) {
        places.push_back(at(row, i % each, i / each));
      }
      conflicts.reads = std::max(conflicts.reads, MostOfABank(places));
    }
  }
  return conflicts;
}

}  // namespace

int main(int arguments, char**) {
  const bool plain = arguments > 1;
  bool sound = true;
  for (const int threads : {64, 128, 256, 512}) {
    for (const int each : {1, 2, 4, 8}) {
      for (int columns = 1; columns <= threads; ++columns) {
        const int rows = threads / columns;
        const LaneTable table(each, columns, rows);
        const auto padded = [&](int row, int e, int column) {
          return table.At(row, e, column);
        };
        const auto dense = [&](int row, int e, int column) {
          return (row * columns + column) * each + e;
        };
        const Conflicts found =
            plain ? Count(threads, each, columns, threads * each, dense)
                  : Count(threads, each, columns, table.Size(), padded);
        std::printf("%d %d %d %d %d\n", threads, each, columns, found.writes,
                    found.reads);
        sound &= found.sound;
      }
    }
  }
  return sound ? 0 : 1;
}
