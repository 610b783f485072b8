// The moments of each lane of a thread, and how a block joins them.
#pragma once

#include "cuda/kernels/common/moments.cuh"
#include "cuda/kernels/lines/place.cuh"
#include "cuda/kernels/lines/shared_layout.h"

namespace fusednorm {
namespace cuda {

// The moments of each lane, taken around the median of three of its elements. The
// median is near the mean even if one of the three is an outlier. kMasked: elements may
// be hidden, so that each lane has a count of its own.
template <class T, int kWidth, bool kMasked>
class LaneMoments {
 public:
  typedef typename Number<T>::Compute C;

  FUSEDNORM_DEVICE explicit LaneMoments(bool centred) : centred_(centred) {
#pragma unroll
    for (int e = 0; e < kWidth; ++e) near_[e] = sum_[e] = squares_[e] = 0;
#pragma unroll
    for (int e = 0; e < kCounts; ++e) count_[e] = 0;
  }
  // For a centred norm without a mask: takes each lane around the median of the first
  // three of the thread's `count` accesses, if it has three.
  template <int kVectors>
  FUSEDNORM_DEVICE LaneMoments(const Pack<T, kWidth> (&packs)[kVectors], int count)
      : LaneMoments(true) {
    packs[0].Get(near_);
    if constexpr (kVectors > 2) {
      C second[kWidth], third[kWidth];
      packs[1].Get(second);
      packs[2].Get(third);
#pragma unroll
      for (int e = 0; e < kWidth; ++e) {
        const C median = Median(near_[e], second[e], third[e]);
        if (count > 2) near_[e] = median;
      }
    }
  }
  // For threads all of whose lanes are of one group: takes them around the median of
  // three elements of the first access.
  FUSEDNORM_DEVICE explicit LaneMoments(const Pack<T, kWidth>& first)
      : LaneMoments(true) {
    C values[kWidth];
    first.Get(values);
    const C near =
        kWidth > 2 ? Median(values[0], values[1], values[kWidth - 1]) : values[0];
#pragma unroll
    for (int e = 0; e < kWidth; ++e) near_[e] = near;
  }

  // Adds the first `count` accesses. These are summed up on their own first, because a
  // long chain of additions loses digits, and with 16-bit data all in one direction.
  template <int kVectors>
  FUSEDNORM_DEVICE void Add(const Pack<T, kWidth> (&packs)[kVectors], int count) {
#pragma unroll
    for (int e = 0; e < kWidth; ++e) {
      C sum = 0, squares = 0;
#pragma unroll
      for (int v = 0; v < kVectors; ++v) {
        if (v >= count) continue;
        C values[kWidth];
        packs[v].Get(values);
        const C away = values[e] - near_[e];
        sum += away;
        squares += away * away;
      }
      sum_[e] += sum;
      squares_[e] += squares;
    }
    count_[0] += static_cast<C>(count < kVectors ? count : kVectors);
  }
  // Adds the elements whose bit in `kept` is set.
  FUSEDNORM_DEVICE void AddKept(const Pack<T, kWidth>& pack, uint32_t kept) {
    static_assert(kMasked, "lanes have a count each");
    C values[kWidth];
    pack.Get(values);
#pragma unroll
    for (int e = 0; e < kWidth; ++e) {
      if ((kept >> e & 1) == 0) continue;
      if (centred_) Near(e, values[e]);
      const C away = values[e] - near_[e];
      sum_[e] += away;
      squares_[e] += away * away;
      count_[e] += C(1);
    }
  }

  // The moments of one lane.
  FUSEDNORM_DEVICE Moments<C> Get(int e) const {
    const C count = count_[kMasked ? e : 0];
    if (!centred_) return {C(0), C(0), squares_[e], count};
    const C mean = sum_[e] * (count > C(0) ? C(1) / count : C(0));
    const C squares = squares_[e] - sum_[e] * mean;
    return {near_[e], mean, squares < C(0) ? C(0) : squares, count};
  }

 private:
  static constexpr int kCounts = kMasked ? kWidth : 1;

  // Chooses `near` of a lane before its next element, `next`, is added.
  FUSEDNORM_DEVICE void Near(int e, C next) {
    if (count_[e] == C(0)) near_[e] = next;
    if (count_[e] != C(2)) return;
    // Two elements have been added; the first of them is `near`.
    const C first = near_[e], second = first + sum_[e];
    near_[e] = Median(first, second, next);
    const C a = first - near_[e], b = second - near_[e];
    sum_[e] = a + b;
    squares_[e] = a * a + b * b;
  }

  const bool centred_;
  C near_[kWidth], sum_[kWidth], squares_[kWidth];
  C count_[kCounts];
};

// The moments of a thread's lanes, where neighbouring lanes of one group are joined.
// Entry e, for each multiple of `fold`, has the lanes from e to e + fold - 1.
template <class T, int kWidth>
struct FoldedMoments {
  typedef typename Number<T>::Compute C;
  Moments<C> at[kWidth];

  template <bool kMasked>
  FUSEDNORM_DEVICE FoldedMoments(const LaneMoments<T, kWidth, kMasked>& lanes,
                                 int fold) {
#pragma unroll
    for (int e = 0; e < kWidth; ++e) at[e] = lanes.Get(e);
    if constexpr (!kMasked && kWidth > 1) {  // with a mask the lanes' counts may differ
#pragma unroll
      for (int step = 1; step < kWidth; step *= 2) {
        if (step >= fold) break;
#pragma unroll
        for (int e = 0; e < kWidth; e += 2 * step) JoinEqual(at[e + step], &at[e]);
      }
    }
  }

  // Calls visit(moments) for each entry.
  template <bool kMasked, class Function>
  FUSEDNORM_DEVICE void Visit(int fold, const Function& visit) const {
#pragma unroll
    for (int e = 0; e < kWidth; ++e) {
      if (kMasked || (e & (fold - 1)) == 0) visit(at[e]);
    }
  }

 private:
  // Joins two parts with the same count.
  FUSEDNORM_DEVICE static void JoinEqual(const Moments<C>& other, Moments<C>* joined) {
    const C away = ((other.near - joined->near) + other.mean) - joined->mean;
    joined->mean += C(0.5) * away;
    joined->squares += other.squares + C(0.5) * joined->count * (away * away);
    joined->count += other.count;
  }
};

// Joins the moments of one group over all threads of a block: first within each warp,
// then the first warp joins the results. for_each is that of JoinTeam. One thread calls
// out(moments). Uses shared memory of kMomentsNumbers numbers for each warp, from
// `offset` on.
template <class T, class ForEach, class Out>
FUSEDNORM_DEVICE void JoinBlock(int64_t offset, bool centred, const ForEach& for_each,
                                const Out& out) {
  typedef typename Number<T>::Compute C;
  const device::Shared<C> numbers(offset);
  const int lane = device::Thread() % device::kWarp;
  const int warp = device::Thread() / device::kWarp;
  const int warps = device::Threads() / device::kWarp;
  const Moments<C> of_warp = JoinTeam<T>(device::kWarp, centred, for_each);
  if (lane == 0) SetMoments(numbers, kMomentsNumbers * warp, of_warp);
  device::SyncBlock();
  if (warp != 0) return;
  const Moments<C> joined = JoinTeam<T>(device::kWarp, centred, [&](const auto& visit) {
    if (lane < warps) visit(GetMoments(numbers, kMomentsNumbers * lane));
  });
  if (lane == 0) out(joined);
}

// The moments of a block's threads in shared memory, and the teams that join them.
template <class T, int kWidth, bool kMasked>
class MomentsTable {
 public:
  typedef typename Number<T>::Compute C;

  FUSEDNORM_DEVICE MomentsTable(const LinesGeometry& g, int64_t offset)
      : g_(g), size_(g.table.Size()), offset_(offset), numbers_(offset) {}

  // For each of the tile's `groups`, one thread calls out(group, moments).
  template <class Out>
  FUSEDNORM_DEVICE void Join(const FoldedMoments<T, kWidth>& mine,
                             const LinePlace<kWidth>& place, int groups, bool centred,
                             const Out& out) const {
    if (g_.tile_groups == 1) {
      JoinBlock<T>(
          offset_, centred,
          [&](const auto& visit) {
            // Without a mask all of a thread's lanes are folded into one.
            if (place.count > 0) mine.template Visit<kMasked>(kWidth, visit);
          },
          [&](const Moments<C>& joined) { out(0, joined); });
      return;
    }
    if (place.row < g_.thread_rows.divisor()) {
      int number = 0;
#pragma unroll
      for (int e = 0; e < kWidth; ++e) {
        if ((e & (g_.fold - 1)) != 0) continue;
        SetMoments(numbers_, g_.table.At(place.row, number++, place.column), mine.at[e],
                   size_);
      }
    }
    device::SyncBlock();
    const int bits = g_.lane_bits + g_.row_bits;
    const int teams = device::Threads() >> bits;
#pragma unroll 1
    for (int first = 0; first < groups; first += teams) {
      const int group = first + (device::Thread() >> bits);
      const Moments<C> joined = JoinTeam<T>(1 << bits, centred, [&](const auto& visit) {
        if (group < groups) VisitGroup(group, visit);
      });
      if (group < groups && (device::Thread() & ((1 << bits) - 1)) == 0) {
        out(group, joined);
      }
    }
  }

 private:
  // Visits the moments that a thread of the group's team has to join.
  template <class Visit>
  FUSEDNORM_DEVICE void VisitGroup(int group, const Visit& visit) const {
    const int row_step = 1 << g_.row_bits, lane_step = 1 << g_.lane_bits;
    const int first_row = device::Thread() & (row_step - 1);
    const int first_lane = device::Thread() >> g_.row_bits & (lane_step - 1);
    const int each_bits = kWidthBits - g_.fold_bits;
    const int lanes = g_.group_lanes.divisor() >> g_.fold_bits;
    const int of_copy = g_.copy_lanes.divisor() >> g_.fold_bits;
#pragma unroll 1
    for (int copy = 0; copy < g_.copies; ++copy) {
#pragma unroll 1
      for (int i = first_lane; i < lanes; i += lane_step) {
        const int lane = copy * of_copy + group * lanes + i;
        const int column = lane >> each_bits;
#pragma unroll 1
        for (int row = first_row; row < g_.thread_rows.divisor(); row += row_step) {
          const int at = g_.table.At(row, lane - (column << each_bits), column);
          visit(GetMoments(numbers_, at, size_));
        }
      }
    }
  }

  static constexpr int kWidthBits = kWidth == 1   ? 0
                                    : kWidth == 2 ? 1
                                    : kWidth == 4 ? 2
                                                  : 3;
  static_assert(1 << kWidthBits == kWidth, "a power of two up to 8");

  const LinesGeometry& g_;
  const int size_;  // of the table of one of the four numbers
  const int64_t offset_;
  const device::Shared<C> numbers_;
};

}  // namespace cuda
}  // namespace fusednorm
