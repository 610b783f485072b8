// Forward of rows that fit on no chip, or too few to fill the device, or with a mask:
// the first kernel writes the moments of slices, the second joins them in a fixed order
// and normalizes.
#pragma once

#include "cuda/kernels/common/affine.cuh"
#include "cuda/kernels/common/held_row.cuh"
#include "cuda/kernels/common/moments.cuh"
#include "cuda/kernels/mask/mask.cuh"
#include "cuda/kernels/split_rows/geometry.h"

namespace fusednorm {
namespace cuda {

// Accesses that a thread has in flight.
constexpr int kSplitBatch = 4;

// A block's slice of a row.
struct RowSlice {
  int64_t row, slice, begin, end;

  FUSEDNORM_DEVICE RowSlice(const NormArgs& args, int64_t block)
      : row(args.slices.Divide(block)), slice(block - row * args.slices.divisor()) {
    begin = slice * args.slice;
    end = begin + Count(args, slice);
  }
  FUSEDNORM_DEVICE static int64_t Count(const NormArgs& args, int64_t slice) {
    const int64_t left = args.rows.length - slice * args.slice;
    return left < args.slice ? left : args.slice;
  }
};

// The moments of a thread's elements, one batch of accesses after the other.
template <class T, int kWidth>
class ThreadMoments {
 public:
  typedef typename Number<T>::Compute C;

  FUSEDNORM_DEVICE explicit ThreadMoments(C near) : all_{near, 0, 0, 0} {}

  // Absent packs are zero.
  FUSEDNORM_DEVICE void Add(const Pack<T, kWidth> (&packs)[kSplitBatch], int valid,
                            bool centred) {
    C values[kWidth];
    if (!centred) {
#pragma unroll
      for (int j = 0; j < kSplitBatch; ++j) {
        packs[j].Get(values);
#pragma unroll
        for (int e = 0; e < kWidth; ++e) all_.squares += values[e] * values[e];
      }
      return;
    }
    if (valid == 0) return;
    C sum = 0;
#pragma unroll
    for (int j = 0; j < kSplitBatch; ++j) {
      if (j >= valid) continue;
      packs[j].Get(values);
#pragma unroll
      for (int e = 0; e < kWidth; ++e) sum += values[e] - all_.near;
    }
    const C count = static_cast<C>(valid * kWidth);
    const C mean = sum / count;
    C squares = 0;
#pragma unroll
    for (int j = 0; j < kSplitBatch; ++j) {
      if (j >= valid) continue;
      packs[j].Get(values);
#pragma unroll
      for (int e = 0; e < kWidth; ++e) {
        const C d = (values[e] - all_.near) - mean;
        squares += d * d;
      }
    }
    AddBatch(mean, squares, count);
  }

  // Of the elements that a mask leaves (mask.cuh), around the first of them all.
  FUSEDNORM_DEVICE void AddKept(const Pack<T, kWidth>& pack, uint32_t kept) {
    C values[kWidth];
    pack.Get(values);
    C sum = 0, count = 0;
#pragma unroll
    for (int e = 0; e < kWidth; ++e) {
      if (!Has(kept, e)) continue;
      if (all_.count + count == C(0)) all_.near = values[e];
      sum += values[e] - all_.near;
      count += C(1);
    }
    if (count == C(0)) return;
    const C mean = sum / count;
    C squares = 0;
#pragma unroll
    for (int e = 0; e < kWidth; ++e) {
      if (!Has(kept, e)) continue;
      const C d = (values[e] - all_.near) - mean;
      squares += d * d;
    }
    AddBatch(mean, squares, count);
  }

  FUSEDNORM_DEVICE const Moments<C>& moments() const { return all_; }

 private:
  FUSEDNORM_DEVICE void AddBatch(C mean, C squares, C count) {
    const C total = all_.count + count;
    const C away = mean - all_.mean;
    all_.squares += squares + away * away * (all_.count * (count / total));
    all_.mean += away * (count / total);
    all_.count = total;
  }

  Moments<C> all_;
};

template <class T, int kWidth>
FUSEDNORM_KERNEL(kBlockThreads, 2)
SplitRowsMoments(const ForwardArgs args) {
  typedef typename Number<T>::Compute C;
  typedef Pack<T, kWidth> P;
  BlockTeam<C> team(args);
  const RowSlice at(args, device::Block());
  const int64_t base = at.row * args.rows.length;
  const C origin = FirstElement<T>(args.x, args.residual, base + at.begin);
  // The sum that is written below may lie over x and the residual.
  if (args.sum != nullptr) device::SyncBlock();

  const int64_t step = int64_t{device::Threads()} * kWidth;
  P packs[kSplitBatch];
  // Loads the thread's accesses from `i` on and returns how many there are.
  const auto load = [&](int64_t i) {
    int valid = 0;
#pragma unroll
    for (int j = 0; j < kSplitBatch; ++j) {
      const bool has = i + j * step < at.end;
      const T* from = static_cast<const T*>(args.x) + base + i + j * step;
      packs[j] = has ? P::LoadFrom(from) : P::Zero();
      valid += has;
    }
    if (args.residual == nullptr) return valid;
#pragma unroll
    for (int j = 0; j < kSplitBatch; ++j) {
      if (j >= valid) continue;
      const int64_t there = base + i + j * step;
      packs[j] = Sum<T, kWidth>(
          packs[j], P::LoadFrom(static_cast<const T*>(args.residual) + there));
      packs[j].StoreTo(static_cast<T*>(args.sum) + there, false);
    }
    return valid;
  };

  int64_t i = at.begin + int64_t{device::Thread()} * kWidth;
  int valid = load(i);
  const bool masked = args.mask.positions != nullptr;
  C near = 0;
  if (args.centred && !masked) {
    // What the block reads first has a mean that is near that of the row, even if the
    // very first element is far from it.
    C sum = 0, count = static_cast<C>(valid * kWidth);
#pragma unroll
    for (int j = 0; j < kSplitBatch; ++j) {
      if (j >= valid) continue;
      C values[kWidth];
      packs[j].Get(values);
#pragma unroll
      for (int e = 0; e < kWidth; ++e) sum += values[e] - origin;
    }
    team.Sum(&sum, &count);
    near = Rounded<T>(origin + sum / count);
  }
  ThreadMoments<T, kWidth> mine(near);
  while (valid > 0) {
    if (masked) {
      const int64_t sample = args.mask.groups.Divide(at.row);
#pragma unroll
      for (int j = 0; j < kSplitBatch; ++j) {
        if (j >= valid) continue;
        mine.AddKept(packs[j], Kept<kWidth>(args.mask, sample, i + j * step));
      }
    } else {
      mine.Add(packs, valid, args.centred);
    }
    i += kSplitBatch * step;
    valid = load(i);
  }
  Moments<C> part = mine.moments();
  C total = static_cast<C>(at.end - at.begin);
  if (masked) {
    Centre<C> centre;
    centre.Add(part);
    team.Sum(&centre.sum, &centre.parts);
    part = Around(centre.Value(), part);
    total = part.count;
    team.Sum(&total);
  }
  const Moments<C> joined = Join(part, total, args.centred, [&](C value) {
    team.Sum(&value);
    return value;
  });
  if (device::Thread() == 0) {
    StoreMoments(args.partial, at.row * args.slices.divisor() + at.slice, joined);
  }
}

template <class T, int kWidth>
FUSEDNORM_KERNEL(kBlockThreads, 1)
SplitRowsNormalize(const ForwardArgs args) {
  typedef typename Number<T>::Compute C;
  typedef Pack<T, kWidth> P;
  BlockTeam<C> team(args);
  // From the end, where the first kernel's last reads are still in L2.
  const RowSlice at(args, device::Blocks() - 1 - device::Block());

  const int64_t slices = args.slices.divisor();
  const int64_t first_slice = at.row * slices;
  C near = LoadMoments<C>(args.partial, first_slice).near;
  C inverse_count = static_cast<C>(args.inverse_count);
  if (args.mask.positions != nullptr) {
    Centre<C> centre;
    C count = 0;
    for (int64_t s = device::Thread(); s < slices; s += device::Threads()) {
      const Moments<C> part = LoadMoments<C>(args.partial, first_slice + s);
      centre.Add(part);
      count += part.count;
    }
    team.Sum(&centre.sum, &centre.parts);
    team.Sum(&count);
    near = centre.Value();
    inverse_count = Inverse(count);
  }
  const auto sum_up = [&](C value) {
    team.Sum(&value);
    return value;
  };
  C sum = 0;
  for (int64_t s = device::Thread(); s < slices; s += device::Threads()) {
    const Moments<C> part = LoadMoments<C>(args.partial, first_slice + s);
    sum += part.count * ((part.near - near) + part.mean);
  }
  const C away = args.centred ? sum_up(sum) * inverse_count : C(0);
  C squares = 0;
  for (int64_t s = device::Thread(); s < slices; s += device::Threads()) {
    const Moments<C> part = LoadMoments<C>(args.partial, first_slice + s);
    const C d = (part.near - near) + part.mean - away;
    squares += part.squares + part.count * d * d;
  }
  squares = sum_up(squares);
  const C mean = near + away;
  const C rstd = InverseSqrt(squares * inverse_count + static_cast<C>(args.epsilon));
  if (at.slice == 0 && device::Thread() == 0) {
    if (args.centred) device::Store(static_cast<C*>(args.mean) + at.row, mean);
    device::Store(static_cast<C*>(args.rstd) + at.row, rstd);
  }

  const int64_t base = at.row * args.rows.length;
  const int64_t param = FirstParam(args.rows, at.row);
  const T* from = static_cast<const T*>(args.residual == nullptr ? args.x : args.sum);
  const int64_t step = int64_t{device::Threads()} * kWidth;
  const int64_t first = at.begin + int64_t{device::Thread()} * kWidth;
#pragma unroll 2
  for (int64_t i = first; i < at.end; i += step) {
    C values[kWidth], gamma[kWidth], beta[kWidth];
    P::LoadFrom(from + base + i).Get(values);
    AffineOfRow<T, kWidth>(args.affine, args.rows, param, i, gamma, beta);
    Normalize(mean, rstd, gamma, beta, values);
    Activate(args.activation, values);
    P::Of(values).StoreTo(static_cast<T*>(args.y) + base + i, args.stream);
  }
}

}  // namespace cuda
}  // namespace fusednorm
