// The sums of the backward pass over several short rows at once. gamma is read, and
// dgamma and dbeta are added to, once for all of these rows.
//
// Included only by kernels.cc, inside its per-instruction-set namespace.
#pragma once

// Rows of at most one block of sums each. The pointers are of the first row; the others
// follow at the distances given here.
template <class Data>
struct ShortRows {
  typedef typename Data::Storage Storage;
  typedef typename Data::Vec Vec;
  typedef typename Vec::Scalar Scalar;

  const Storage* dy;
  const Storage* x;
  Scalar* kept_dz;  // null: not kept
  int64_t distance;
  int64_t kept_distance;
  int64_t count;       // elements of a row
  const Scalar* mean;  // null: not centred
  const Scalar* rstd;
  int64_t group_distance;
  Operand<Vec> gamma, beta;
};

// Sets sums[row] to the sums of dz * gamma and dz * gamma * xhat. Adds dz and dz * xhat
// to the arrays unless they are null.
template <class Data, class Act, int kRows>
void ReduceShortRows(const ShortRows<Data>& rows, SumPair* sums,
                     typename Data::Vec::Scalar* plain_array,
                     typename Data::Vec::Scalar* xhat_array) {
  typedef typename Data::Vec Vec;
  typedef typename Vec::V V;
  V plain[kRows] = {}, with_xhat[kRows] = {};
  V mean[kRows], rstd[kRows];
  for (int row = 0; row < kRows; ++row) {
    const int64_t group = row * rows.group_distance;
    mean[row] = Vec::Splat(rows.mean == nullptr ? 0 : rows.mean[group]);
    rstd[row] = Vec::Splat(rows.rstd[group]);
  }
  const ShortRows<Data> from = rows;
  ForEachVector<Vec>(from.count, [&](int64_t i, auto width) FUSEDNORM_INLINE_LAMBDA {
    const V gamma = from.gamma.At(i, width), beta = from.beta.At(i, width);
    V column_plain = {}, column_xhat = {};
#pragma GCC unroll 4
    for (int row = 0; row < kRows; ++row) {
      const int64_t at = i + row * from.distance;
      const auto [xhat, dz] = Recompute<Data, Act>(from.dy + at, from.x + at, width,
                                                   {mean[row], rstd[row], gamma, beta});
      if constexpr (!Act::kIsIdentity) {
        if (from.kept_dz != nullptr) {
          Store<ScalarData<Vec>>(from.kept_dz + i + row * from.kept_distance, dz,
                                 width);
        }
      }
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

// The function above for an activation and a number of rows. More than four rows would
// not fit the registers.
template <class Data>
using ShortRowsReducer = void (*)(const ShortRows<Data>&, SumPair*,
                                  typename Data::Vec::Scalar*,
                                  typename Data::Vec::Scalar*);
template <class Data>
ShortRowsReducer<Data> ReducerOfShortRows(Activation activation, int64_t rows) {
  ShortRowsReducer<Data> reducer = nullptr;
  VisitActivation(activation, [&](auto act) {
    if (rows == 2) reducer = ReduceShortRows<Data, decltype(act), 2>;
    if (rows == 4) reducer = ReduceShortRows<Data, decltype(act), 4>;
  });
  return reducer;
}
