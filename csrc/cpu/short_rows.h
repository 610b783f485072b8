// The sums of the backward pass over several short rows at once. gamma is read, and
// dgamma and dbeta are added to, once for all of these rows.
//
// Included only by kernels.cc, inside its per-instruction-set namespace.
#pragma once

// Rows of at most one block of sums each. The pointers are of the first row; the others
// follow at the distances given here. DyData is how dy is stored.
template <class Data, class DyData = Data>
struct ShortRows {
  typedef typename Data::Vec Vec;
  typedef typename Vec::Scalar Scalar;

  FUSEDNORM_INLINE Scalar MeanOf(int64_t row) const {
    return mean == nullptr ? 0 : mean[row * group_distance];
  }
  FUSEDNORM_INLINE Scalar RstdOf(int64_t row) const {
    return rstd[row * group_distance];
  }

  const typename DyData::Storage* dy;
  int64_t dy_distance;
  const typename Data::Storage* x;
  int64_t distance;
  int64_t count;       // elements of a row
  const Scalar* mean;  // null: not centred
  const Scalar* rstd;
  int64_t group_distance;
  Operand<Vec> gamma, beta;
};

// Computes dz of rows that are `distance` apart there.
template <class Data, class Act>
void ComputeDzOfShortRows(const ShortRows<Data>& rows, int64_t num_rows,
                          typename Data::Vec::Scalar* dz, int64_t distance) {
  typedef Same<typename Data::Vec> OfRow;
  for (int64_t row = 0; row < num_rows; ++row) {
    ComputeDz<Data, Act, Same>(
        rows.dy + row * rows.dy_distance, rows.x + row * rows.distance,
        dz + row * distance, rows.count,
        {OfRow(rows.MeanOf(row)), OfRow(rows.RstdOf(row)), rows.gamma, rows.beta});
  }
}

// Sets sums[row] to the sums of dz * gamma and dz * gamma * xhat. Adds dz and dz * xhat
// to the arrays unless they are null.
template <class Data, class Act, int kRows, class DyData = Data>
void ReduceShortRows(const ShortRows<Data, DyData>& rows, SumPair* sums,
                     typename Data::Vec::Scalar* plain_array,
                     typename Data::Vec::Scalar* xhat_array) {
  typedef typename Data::Vec Vec;
  typedef typename Vec::V V;
  V plain[kRows] = {}, with_xhat[kRows] = {};
  V mean[kRows], rstd[kRows];
  for (int row = 0; row < kRows; ++row) {
    mean[row] = Vec::Splat(rows.MeanOf(row));
    rstd[row] = Vec::Splat(rows.RstdOf(row));
  }
  const ShortRows<Data, DyData> from = rows;
  ForEachVector<Vec>(from.count, [&](int64_t i, auto width) FUSEDNORM_INLINE_LAMBDA {
    const V gamma = from.gamma.At(i, width), beta = from.beta.At(i, width);
    V column_plain = {}, column_xhat = {};
#pragma GCC unroll 4
    for (int row = 0; row < kRows; ++row) {
      const auto [xhat, dz] = Recompute<Data, Act, DyData>(
          from.dy + i + row * from.dy_distance, from.x + i + row * from.distance, width,
          {mean[row], rstd[row], gamma, beta});
      const FirstOrderSums<V> of_columns = FirstOrderTerms(dz, xhat);
      column_plain = column_plain + of_columns.plain;
      column_xhat = column_xhat + of_columns.with_xhat;
      const V term = KeepTail<Vec>(dz * gamma, width);
      const FirstOrderSums<V> of_row = FirstOrderTerms(term, xhat);
      plain[row] = plain[row] + of_row.plain;
      with_xhat[row] = with_xhat[row] + KeepTail<Vec>(of_row.with_xhat, width);
    }
    if (plain_array != nullptr) {
      AddTo<Vec>(plain_array + i, column_plain, width);
      AddTo<Vec>(xhat_array + i, column_xhat, width);
    }
  });
  for (int row = 0; row < kRows; ++row) {
    sums[row] = {SumLanes<Vec>(plain[row]), SumLanes<Vec>(with_xhat[row])};
  }
}

// The function above for an activation and a number of rows, 2 or 4. More rows would
// not fit the registers. As in Segments, dz with a transcendental activation is
// computed first, by a function of its own.
template <class Data>
class ShortRowsReducer {
 public:
  typedef typename Data::Vec Vec;
  typedef typename Vec::Scalar Scalar;

  // For rows that are reduced one by one.
  ShortRowsReducer() = default;

  ShortRowsReducer(Activation activation, int64_t rows) : rows_(rows) {
    VisitActivation(activation, [&](auto act) {
      typedef decltype(act) Act;
      if constexpr (Act::kIsTranscendental) {
        compute_dz_ = ComputeDzOfShortRows<Data, Act>;
      } else {
        reduce_ =
            rows == 4 ? ReduceShortRows<Data, Act, 4> : ReduceShortRows<Data, Act, 2>;
      }
    });
    reduce_dz_ = rows == 4 ? ReduceShortRows<Data, NoActivation, 4, Scalars>
                           : ReduceShortRows<Data, NoActivation, 2, Scalars>;
  }

  // 0: there is no function.
  FUSEDNORM_INLINE int64_t rows() const { return rows_; }

  // Keeps dz of the first row in kept_dz and of the others at the distance from each to
  // the next, unless kept_dz is null.
  FUSEDNORM_INLINE void Run(const ShortRows<Data>& rows, Scalar* kept_dz,
                            int64_t kept_distance, SumPair* sums, Scalar* plain_array,
                            Scalar* xhat_array) const {
    if (compute_dz_ == nullptr) return reduce_(rows, sums, plain_array, xhat_array);
    Scalar block[kMostRows * kVectorsPerBlock * Vec::kLanes];
    Scalar* const dz = kept_dz == nullptr ? block : kept_dz;
    const int64_t distance = kept_dz == nullptr ? rows.count : kept_distance;
    compute_dz_(rows, rows_, dz, distance);
    reduce_dz_({dz, distance, rows.x, rows.distance, rows.count, rows.mean, rows.rstd,
                rows.group_distance, rows.gamma, rows.beta},
               sums, plain_array, xhat_array);
  }

 private:
  static constexpr int64_t kMostRows = 4;
  typedef ScalarData<Vec> Scalars;
  template <class DyData>
  using Reduces = void (*)(const ShortRows<Data, DyData>&, SumPair*, Scalar*, Scalar*);

  int64_t rows_ = 0;
  // Null unless the activation is transcendental.
  void (*compute_dz_)(const ShortRows<Data>&, int64_t, Scalar* dz, int64_t) = nullptr;
  Reduces<Data> reduce_ = nullptr;  // null if the activation is transcendental
  Reduces<Scalars> reduce_dz_ = nullptr;
};
