// The moments of every lane of a unit, over its rows. moments.h describes the method;
// here it is applied to each lane, with blocks of rows.
//
// Included only by kernels.cc, inside its per-instruction-set namespace.
#pragma once

template <class Data>
class LaneMoments {
 public:
  typedef typename Data::Storage Storage;
  typedef typename Data::Vec Vec;
  typedef typename Vec::Scalar Scalar;

  // `origin` has an element of its group for each lane; see RunMoments.
  LaneMoments(bool centred, const Scalar* origin, int64_t lanes)
      : centred_(centred), origin_(origin) {
    for (int64_t lane = 0; lane < lanes; ++lane) {
      shift_[lane] = origin[lane];
      sum_[lane] = squares_[lane] = 0;
      mean_[lane] = deviations_[lane] = 0;
      if constexpr (kCarries<Scalar>) lost_[lane] = 0;
    }
  }

  // Adds rows of the first `lanes` lanes. All rows until Flush must have the same
  // lanes. Only the last row may be shorter than those before.
  void Add(const Storage* x, int64_t rows, int64_t stride, int64_t lanes) {
    for (int64_t row = 0; row < rows;) {
      const Storage* const from = x + row * stride;
      if (left_ == 0) {
        // At most as many as were added before. The first few rows are read twice.
        left_ = rows_ == 0 ? Min(kFirstRows, rows - row) : Min(rows_, kRowsPerFlush);
        if (rows_ == 0 && centred_) Recentre(from, left_, stride, lanes);
      }
      const int64_t count = Min(left_, rows - row);
      AddRows(from, count, stride, lanes);
      row += count;
      left_ -= count;
      if (left_ == 0) Flush();
    }
  }

  // Joins what was added since the last Flush to the moments.
  void Flush() {
    if (block_rows_ == 0) return;
    Fold(block_rows_, block_lanes_);
    block_rows_ = left_ = 0;
  }

  // The moments of a lane. Must be called after Flush.
  FUSEDNORM_INLINE Moments At(int64_t lane) const {
    const int64_t rows = lane < last_lanes_ ? rows_ : rows_ - last_rows_;
    return {static_cast<double>(rows), mean_[lane], deviations_[lane]};
  }

 private:
  typedef typename Vec::V V;
  typedef ScalarData<Vec> Scalars;
  static constexpr int64_t kFirstRows = 16;

  void AddRows(const Storage* x, int64_t rows, int64_t stride, int64_t lanes) {
    for (int64_t row = 0; row < rows; ++row) {
      ForEachVector<Vec>(lanes, [&](int64_t i, auto width) FUSEDNORM_INLINE_LAMBDA {
        const V d =
            Load<Data>(x + row * stride + i, width) - Load<Scalars>(shift_ + i, width);
        AddTo<Vec>(sum_ + i, d, width);
        AddTo<Vec>(squares_ + i, d * d, width);
      });
    }
    block_rows_ += rows;
    block_lanes_ = lanes;
  }

  void Recentre(const Storage* x, int64_t rows, int64_t stride, int64_t lanes) {
    for (int64_t row = 0; row < rows; ++row) {
      ForEachVector<Vec>(lanes, [&](int64_t i, auto width) FUSEDNORM_INLINE_LAMBDA {
        AddTo<Vec>(
            sum_ + i,
            Load<Data>(x + row * stride + i, width) - Load<Scalars>(shift_ + i, width),
            width);
      });
    }
    const double per_row = 1.0 / rows;
    for (int64_t lane = 0; lane < lanes; ++lane) {
      shift_[lane] = static_cast<Scalar>(origin_[lane] + sum_[lane] * per_row);
      sum_[lane] = 0;
    }
  }

  void Fold(int64_t rows, int64_t lanes) {
    const double per_row = 1.0 / rows;
    const double share = static_cast<double>(rows) / (rows_ + rows);
    const double weight = rows_ * share;
    if (centred_) {
      for (int64_t lane = 0; lane < lanes; ++lane) {
        const double from_shift = sum_[lane] * per_row;
        const double mean =
            (static_cast<double>(shift_[lane]) - origin_[lane]) + from_shift;
        const double delta = mean - mean_[lane];
        deviations_[lane] +=
            (squares_[lane] - from_shift * sum_[lane]) + weight * delta * delta;
        if constexpr (kCarries<Scalar>) {
          AddCarrying(delta * share, &mean_[lane], &lost_[lane]);
        } else {
          mean_[lane] += delta * share;
        }
        shift_[lane] = static_cast<Scalar>(origin_[lane] + mean_[lane]);
      }
    } else {
      for (int64_t lane = 0; lane < lanes; ++lane) deviations_[lane] += squares_[lane];
    }
    for (int64_t lane = 0; lane < lanes; ++lane) sum_[lane] = squares_[lane] = 0;
    rows_ += rows;
    last_rows_ = rows;
    last_lanes_ = lanes;
  }

  const bool centred_;
  const Scalar* const origin_;
  int64_t rows_ = 0;
  int64_t last_rows_ = 0, last_lanes_ = 0;
  int64_t block_rows_ = 0, block_lanes_ = 0;  // rows and lanes in the sums
  int64_t left_ = 0;                          // rows until the sums are joined
  Scalar shift_[kMaxLanes], sum_[kMaxLanes], squares_[kMaxLanes];
  double mean_[kMaxLanes], deviations_[kMaxLanes];
  double lost_[kCarries<Scalar> ? kMaxLanes : 1];
};
