// Short rows, as many of them at a time as a vector has lanes: a tile. Its elements
// are turned so that a vector holds one column, an element of every row; sums along
// rows are then sums of vectors, and no lane is idle however short the row.
//
// Included only by kernels.cc, inside its per-instruction-set namespace.
#pragma once

// vectors[i] gets lane i of every vector. Writing two vectors as one, a lane of each in
// turn, moves the highest bit of the vector's number to the lowest of the lane's and
// the highest of the lane's to the lowest of the vector's; as often as there are bits,
// it swaps the two numbers.
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

  // Reading and writing a tile are calls, not inlined: each is hundreds of instructions
  // that do not depend on the activation, and were compiled again for every one. That
  // was half of the time it takes to compile the kernels.

  // `rows` rows of `length` at `from`, after which there are `after` elements more;
  // rows that are missing read as zero.
  FUSEDNORM_CALL void ReadFrom(const Storage* from, int64_t rows, int64_t length,
                               int64_t after) {
    // Vectors past the end of a row read the next, and past the last row what nobody
    // looks at, if only there is something to read.
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

  // The way back.
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
    // The vectors at the end of the rows reach into the next one, whose own are written
    // after them: later rows later, and the beginnings of rows last.
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

  // Calls store(index, vector) for each vector of the rows, the beginnings of rows
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

// The sums over a tile's columns of kSums terms: add(column, terms) stores the terms of
// one. In the compute type over a few columns, two sums side by side, then in double.
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
