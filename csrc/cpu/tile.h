// A tile is as many short rows as a vector has lanes. It is transposed: each vector
// holds one column, with an element of every row. A sum along a row is then a sum of
// vectors, and no lane is idle, however short the row is.
//
// Included only by kernels.cc, inside its per-instruction-set namespace.
#pragma once

// Transposes: vectors[i] gets lane i of every vector. Element (vector, lane) is the
// number vector * kLanes + lane. One step zips vectors i and i + kHalf, which rotates
// the bits of all these numbers by one. As many steps as a lane number has bits swap
// vector and lane.
template <class Vec>
FUSEDNORM_INLINE void Transpose(typename Vec::V (&vectors)[Vec::kLanes]) {
  constexpr int64_t kHalf = Vec::kLanes / 2;
  typename Vec::V zipped[Vec::kLanes];
#pragma GCC unroll 4
  for (int64_t bit = 1; bit < Vec::kLanes; bit *= 2) {
#pragma GCC unroll 8
    for (int64_t i = 0; i < kHalf; ++i) {
      zipped[2 * i] = ZipLow(vectors[i], vectors[i + kHalf]);
      zipped[2 * i + 1] = ZipHigh(vectors[i], vectors[i + kHalf]);
    }
#pragma GCC unroll 16
    for (int64_t i = 0; i < Vec::kLanes; ++i) vectors[i] = zipped[i];
  }
}

template <class Data>
class Tile {
 public:
  typedef typename Data::Storage Storage;
  typedef typename Data::Vec Vec;
  typedef typename Vec::Scalar Scalar;
  typedef typename Vec::V V;
  static constexpr int64_t kRows = Vec::kLanes;

  // ReadFrom and WriteTo are called, not inlined. Each is hundreds of instructions that
  // do not depend on the activation, but were compiled again for every activation. That
  // was half of the time that it took to compile the kernels.

  // Reads `rows` rows of `length` elements at `from`. The tensor has `after` more
  // elements behind them. Missing rows read as zero.
  FUSEDNORM_CALL void ReadFrom(const Storage* from, int64_t rows, int64_t length,
                               int64_t after) {
    // A vector that goes past the end of its row reads from the next row. Past the last
    // row it reads elements that are not used, if the tensor has enough elements.
    if (rows == kRows && (length % kRows == 0 || after >= kRows)) {
      ReadRows<Data>(from, length);
      return;
    }
    Scalar plain[kRows * kMaxTileColumns + kRows] = {};
    ForEachVector<Vec>(rows * length,
                       [&](int64_t i, auto width) FUSEDNORM_INLINE_LAMBDA {
                         Write(plain + i, Load<Data>(from + i, width));
                       });
    ReadRows<Scalars>(plain, length);
  }

  // Writes the rows back.
  FUSEDNORM_CALL void WriteTo(Storage* to, int64_t rows, int64_t length,
                              Writes writes) const {
    const bool aligned =
        reinterpret_cast<uintptr_t>(to) % sizeof(typename Data::Packed) == 0;
    if (rows == kRows && length % kRows == 0) {
      const Writes if_aligned = aligned ? writes : Writes::kCached;
      WriteRows(length, [&](int64_t i, V value) {
        StoreResult<Data>(to + i, value, Full<Vec>(), if_aligned);
      });
      return;
    }
    // A vector that goes past the end of its row also writes to the next row, which
    // must be written after it. So later rows are written later, and the beginnings of
    // rows last.
    Scalar plain[kRows * kMaxTileColumns + kRows];
    WriteRows(length, [&](int64_t i, V value) { Write(plain + i, value); });
    ForEachResult<Data>(to, rows * length, writes, [&](int64_t i, auto part) {
      return Load<Scalars>(plain + i, part);
    });
  }

  V columns[kMaxTileColumns];

 private:
  typedef ScalarData<Vec> Scalars;

  template <class From>
  FUSEDNORM_INLINE void ReadRows(const typename From::Storage* from, int64_t length) {
    for (int64_t column = 0; column < length; column += kRows) {
      V vectors[kRows];
#pragma GCC unroll 16
      for (int64_t row = 0; row < kRows; ++row) {
        vectors[row] = Load<From>(from + row * length + column, Full<Vec>());
      }
      Transpose<Vec>(vectors);
#pragma GCC unroll 16
      for (int64_t i = 0; i < kRows; ++i) columns[column + i] = vectors[i];
    }
  }

  // Calls store(index, vector) for each vector of the rows; the beginnings of rows come
  // last.
  template <class StoreAt>
  FUSEDNORM_INLINE void WriteRows(int64_t length, StoreAt&& store) const {
    for (int64_t column = (length - 1) / kRows * kRows; column >= 0; column -= kRows) {
      V vectors[kRows];
#pragma GCC unroll 16
      for (int64_t i = 0; i < kRows; ++i) vectors[i] = columns[column + i];
      Transpose<Vec>(vectors);
#pragma GCC unroll 16
      for (int64_t row = 0; row < kRows; ++row) {
        store(row * length + column, vectors[row]);
      }
    }
  }
};

// Sums kSums terms over a tile's columns. add(column, terms) stores the terms of a
// column. Sums are taken in the compute type over a few columns, two side by side, then
// in double.
template <class Vec, int kSums, class Add>
FUSEDNORM_INLINE void SumColumns(int64_t columns,
                                 Wide<double, Vec::kLanes> (&totals)[kSums],
                                 Add&& add) {
  typedef typename Vec::V V;
  constexpr int64_t kColumnsPerFold = 8;
  for (auto& total : totals) total = Wide<double, Vec::kLanes>{};
  for (int64_t begin = 0; begin < columns; begin += kColumnsPerFold) {
    const int64_t end = Min(columns, begin + kColumnsPerFold);
    V even[kSums] = {}, odd[kSums] = {}, terms[kSums];
    int64_t i = begin;
    for (; i + 2 <= end; i += 2) {
      add(i, terms);
      for (int s = 0; s < kSums; ++s) even[s] = even[s] + terms[s];
      add(i + 1, terms);
      for (int s = 0; s < kSums; ++s) odd[s] = odd[s] + terms[s];
    }
    if (i < end) {
      add(i, terms);
      for (int s = 0; s < kSums; ++s) even[s] = even[s] + terms[s];
    }
    for (int s = 0; s < kSums; ++s) {
      totals[s] = totals[s] + ConvertTo<Wide<double, Vec::kLanes>>(even[s] + odd[s]);
    }
  }
}
