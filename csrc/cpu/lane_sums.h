// Sums down the rows for each lane, and sums over the lanes of each group.
//
// Included only by kernels.cc, inside its per-instruction-set namespace.
#pragma once

// Adds up the lanes of each group, one after the other, which may be hundreds. There
// are `kSums` sums for each group.
template <class Scalar, int kSums>
class GroupAdder {
 public:
  explicit GroupAdder(int64_t groups) {
    if (!kCarries<Scalar>) return;
    for (int which = 0; which < kSums; ++which) {
      for (int64_t group = 0; group < groups; ++group) lost_[which][group] = 0;
    }
  }
  FUSEDNORM_INLINE void Add(int which, int64_t group, double term, double* total) {
    if (kCarries<Scalar>) {
      AddCarrying(term, total, &lost_[which][group]);
    } else {
      *total += term;
    }
  }

 private:
  double lost_[kSums][kCarries<Scalar> ? kMaxLanes : 1];
};

// Sums for each lane: in the compute type over a few rows, then in double.
template <class Scalar, int kSums>
struct LaneSums {
  explicit LaneSums(int64_t lanes) : lanes(lanes) {
    for (int s = 0; s < kSums; ++s) {
      for (int64_t lane = 0; lane < lanes; ++lane) staged[s][lane] = sums[s][lane] = 0;
    }
  }
  FUSEDNORM_INLINE void EndRow() {
    if (++rows == kRowsPerFlush) Flush();
  }
  void Flush() {
    rows = 0;
    for (int s = 0; s < kSums; ++s) {
      for (int64_t lane = 0; lane < lanes; ++lane) {
        sums[s][lane] += staged[s][lane];
        staged[s][lane] = 0;
      }
    }
  }

  const int64_t lanes;
  int64_t rows = 0;
  Scalar staged[kSums][kMaxLanes];
  double sums[kSums][kMaxLanes];
};
