// Forward and backward over tiles of short rows. Everything is read once, and the tile
// stays in the first cache.
//
// Included only by kernels.cc, inside its per-instruction-set namespace.
#pragma once

// The rows of a tile.
struct TileRows {
  int64_t first;  // first row, in the tensor
  int64_t count;  // fewer than a vector has lanes in the last tile
  int64_t after;  // elements of the tensor behind these rows
};

template <class Data>
FUSEDNORM_INLINE TileRows RowsOfTile(const NormProblem& problem, int64_t tile) {
  const int64_t first = tile * Tile<Data>::kRows;
  const int64_t count = Min(Tile<Data>::kRows, problem.n - first);
  return {first, count, (problem.n - first - count) * problem.k};
}

// With a lane for each row.
template <class V>
struct RowStatistics {
  V mean, rstd;
};

// The functions of a tile that are compiled for each activation. x becomes y.
template <class Data, class Act>
void ApplyToTile(const RowStatistics<typename Data::Vec::V>& of,
                 const Params<typename Data::Vec::Scalar>& params, int64_t length,
                 Tile<Data>* tile) {
  typedef typename Data::Vec Vec;
  typedef typename Vec::V V;
  for (int64_t i = 0; i < length; ++i) {
    const V xhat = XhatOf(tile->columns[i], of.mean, of.rstd);
    const V z = ZOf(xhat, Vec::Splat(params.GammaAt(i)), Vec::Splat(params.BetaAt(i)));
    tile->columns[i] = Act::template Forward<VecMath<Vec>>(z);
  }
}

// dy becomes dz.
template <class Data, class Act>
void ComputeDzOfTile(const Tile<Data>& x,
                     const RowStatistics<typename Data::Vec::V>& of,
                     const Params<typename Data::Vec::Scalar>& params, int64_t length,
                     Tile<Data>* dy) {
  typedef typename Data::Vec Vec;
  typedef typename Vec::V V;
  for (int64_t i = 0; i < length; ++i) {
    const V xhat = XhatOf(x.columns[i], of.mean, of.rstd);
    const V z = ZOf(xhat, Vec::Splat(params.GammaAt(i)), Vec::Splat(params.BetaAt(i)));
    dy->columns[i] = DzOf(dy->columns[i], Act::template Derivative<VecMath<Vec>>(z));
  }
}

template <class Data>
class ForwardTiles {
 public:
  typedef typename Data::Storage Storage;
  typedef typename Data::Vec Vec;
  typedef typename Vec::Scalar Scalar;
  typedef typename Vec::V V;

  ForwardTiles(const NormProblem& problem, const Partition& part,
               const ForwardBuffers& buffers, Workspace workspace)
      : problem_(problem),
        part_(part),
        x_(static_cast<const Storage*>(buffers.x)),
        residual_(static_cast<const Storage*>(buffers.residual)),
        sum_(static_cast<Storage*>(buffers.sum)),
        y_(static_cast<Storage*>(buffers.y)),
        mean_(static_cast<Scalar*>(buffers.mean)),
        rstd_(static_cast<Scalar*>(buffers.rstd)) {
    params_ = {PrepareGamma<Data>(problem, buffers.gamma, &workspace),
               PrepareParam<Data>(problem, buffers.beta, 0, &workspace)};
  }

  void Run(const ParallelFor& parallel) const {
    Applies apply = nullptr;
    VisitActivation(problem_.activation,
                    [&](auto act) { apply = ApplyToTile<Data, decltype(act)>; });
    const int64_t tiles = part_.outer;
    const int64_t elements = part_.unit_elements * tiles / part_.blocks;
    ForEachTask(parallel, part_.blocks, elements, [&](int64_t block) {
      const int64_t end = tiles * (block + 1) / part_.blocks;
      for (int64_t tile = tiles * block / part_.blocks; tile < end; ++tile) {
        RunTile(RowsOfTile<Data>(problem_, tile), apply);
      }
      if (part_.streams) EndStream();
    });
  }

 private:
  typedef ScalarData<Vec> Scalars;
  typedef void (*Applies)(const RowStatistics<V>&, const Params<Scalar>&, int64_t,
                          Tile<Data>*);

  void RunTile(const TileRows& rows, Applies apply) const {
    const int64_t length = problem_.k;
    const int64_t at = rows.first * length;
    const Storage* from = x_ + at;
    if (problem_.has_residual) {
      AddResidual<Data>(from, residual_ + at, sum_ + at, rows.count * length);
      from = sum_ + at;
    }
    Tile<Data> tile;
    tile.ReadFrom(from, rows.count, length, rows.after);
    const RowStatistics<V> of = Statistics(tile);
    const Partial width{rows.count};
    if (problem_.centred) Store<Scalars>(mean_ + rows.first, of.mean, width);
    Store<Scalars>(rstd_ + rows.first, of.rstd, width);
    apply(of, params_, length, &tile);
    tile.WriteTo(y_ + at, rows.count, length,
                 part_.streams ? Writes::kStreamed : Writes::kCached);
  }

  typedef Wide<double, Vec::kLanes> Doubles;

  // Two passes over the columns: first the mean, then the deviations from it, which
  // also correct the mean.
  RowStatistics<V> Statistics(const Tile<Data>& tile) const {
    const int64_t length = problem_.k;
    const Doubles per_element = SplatTo<Doubles>(1.0 / length);
    V mean = {};
    if (problem_.centred) {
      const V origin = tile.columns[0];
      Doubles sum[1];
      SumColumns<Vec>(length, sum, [&](int64_t i, V(&terms)[1]) {
        terms[0] = tile.columns[i] - origin;
      });
      mean = ConvertTo<V>(ConvertTo<Doubles>(origin) + sum[0] * per_element);
    }
    Doubles sums[2];
    SumColumns<Vec>(length, sums, [&](int64_t i, V(&terms)[2]) {
      terms[0] = tile.columns[i] - mean;
      terms[1] = terms[0] * terms[0];
    });
    Doubles variance = sums[1] * per_element;
    if (problem_.centred) {
      const Doubles correction = sums[0] * per_element;
      mean = ConvertTo<V>(ConvertTo<Doubles>(mean) + correction);
      variance = variance - correction * correction;
    }
    return {mean, ConvertTo<V>(RstdOf(variance, problem_.epsilon))};
  }

  // RstdOf of group.h for the groups of all rows.
  static FUSEDNORM_INLINE Doubles RstdOf(Doubles variance, double epsilon) {
    const Doubles zero = {};
    variance = SelectLanes(variance < zero, zero, variance);
    const Doubles squared = variance + epsilon;
    return SelectLanes(squared == zero, zero,
                       SplatTo<Doubles>(1.0) / SquareRoot(squared));
  }

  const NormProblem& problem_;
  const Partition& part_;
  const Storage* const x_;
  const Storage* const residual_;
  Storage* const sum_;
  Storage* const y_;
  Scalar* const mean_;
  Scalar* const rstd_;
  Params<Scalar> params_;
};

template <class Data>
class BackwardTiles {
 public:
  typedef typename Data::Storage Storage;
  typedef typename Data::Vec Vec;
  typedef typename Vec::Scalar Scalar;
  typedef typename Vec::V V;

  BackwardTiles(const NormProblem& problem, const Partition& part,
                const BackwardBuffers& buffers, Workspace workspace)
      : problem_(problem), part_(part), buffers_(buffers) {
    set_bytes_ = SetBytes(problem, GradientSums<Scalar>::kCount);
    sets_ = workspace.Take<char>(part.sets * set_bytes_);
    params_ = {PrepareGamma<Data>(problem, buffers.gamma, &workspace),
               PrepareParam<Data>(problem, buffers.beta, 0, &workspace)};
  }

  void Run(const ParallelFor& parallel) const {
    ComputesDz compute_dz = nullptr;
    VisitActivation(problem_.activation, [&](auto act) {
      typedef decltype(act) Act;
      if constexpr (!Act::kIsIdentity) compute_dz = ComputeDzOfTile<Data, Act>;
    });
    const int64_t elements = part_.unit_elements * part_.outer / part_.blocks;
    ForEachTask(parallel, part_.blocks, elements,
                [&](int64_t block) { RunBlock(block, compute_dz); });
    SetSums<Data>(problem_, sets_, set_bytes_, part_.sets)
        .Run(parallel, {buffers_.dgamma, buffers_.dbeta});
  }

 private:
  typedef ScalarData<Vec> Scalars;
  typedef Wide<double, Vec::kLanes> Doubles;

  // dgamma and dbeta, with a lane for each row: over some tiles, then summed in double.
  struct ColumnGradients {
    V dgamma[kMaxTileColumns], dbeta[kMaxTileColumns];
  };

  // Null if dz is dy.
  typedef void (*ComputesDz)(const Tile<Data>& x, const RowStatistics<V>&,
                             const Params<Scalar>&, int64_t, Tile<Data>* dy);

  void RunBlock(int64_t block, ComputesDz compute_dz) const {
    const int64_t length = problem_.k;
    GradientSums<Scalar> sums;
    if (part_.sets > 0) {
      sums = GradientSums<Scalar>(sets_ + block * set_bytes_, length, 0, length);
    }
    ColumnGradients columns;
    const auto clear = [&] {
      for (int64_t i = 0; i < length; ++i) columns.dgamma[i] = columns.dbeta[i] = V{};
    };
    const auto flush = [&] {
      for (int64_t i = 0; i < length; ++i) {
        sums.AddPair(
            i, {SumLanes<Vec>(columns.dbeta[i]), SumLanes<Vec>(columns.dgamma[i])});
      }
      clear();
    };
    clear();
    const int64_t end = part_.outer * (block + 1) / part_.blocks;
    int64_t staged = 0;
    for (int64_t tile = part_.outer * block / part_.blocks; tile < end; ++tile) {
      RunTile(RowsOfTile<Data>(problem_, tile), compute_dz, &columns);
      if (++staged % kRowsPerFlush == 0) flush();
    }
    flush();
    if (part_.streams) EndStream();
  }

  void RunTile(const TileRows& rows, ComputesDz compute_dz,
               ColumnGradients* params) const {
    const int64_t length = problem_.k;
    const int64_t at = rows.first * length;
    // dy becomes dz, and then dx.
    Tile<Data> x, dy;
    x.ReadFrom(static_cast<const Storage*>(buffers_.x) + at, rows.count, length,
               rows.after);
    dy.ReadFrom(static_cast<const Storage*>(buffers_.dy) + at, rows.count, length,
                rows.after);
    const V mean = OfRows(buffers_.mean, rows);
    const V rstd = OfRows(buffers_.rstd, rows);
    if (compute_dz != nullptr) compute_dz(x, {mean, rstd}, params_, length, &dy);
    Doubles sums[2];
    SumColumns<Vec>(length, sums, [&](int64_t i, V(&terms)[2]) {
      const V gamma = Vec::Splat(params_.GammaAt(i));
      const V xhat = XhatOf(x.columns[i], mean, rstd);
      const V dz = dy.columns[i];
      const FirstOrderSums<V> of_column = FirstOrderTerms(dz, xhat);
      params->dbeta[i] = params->dbeta[i] + of_column.plain;
      params->dgamma[i] = params->dgamma[i] + of_column.with_xhat;
      const FirstOrderSums<V> of_rows = FirstOrderTerms(dz * gamma, xhat);
      terms[0] = of_rows.plain;
      terms[1] = of_rows.with_xhat;
    });
    const FirstOrderShares<V> shares = SharesOfRows({sums[0], sums[1]}, rows, rstd);
    for (int64_t i = 0; i < length; ++i) {
      const V gamma = Vec::Splat(params_.GammaAt(i));
      const V xhat = XhatOf(x.columns[i], mean, rstd);
      dy.columns[i] = DxOf(dy.columns[i], gamma, xhat, rstd, shares);
    }
    if (buffers_.dsum != nullptr) {
      x.ReadFrom(static_cast<const Storage*>(buffers_.dsum) + at, rows.count, length,
                 rows.after);
      for (int64_t i = 0; i < length; ++i) {
        dy.columns[i] = dy.columns[i] + x.columns[i];
      }
    }
    dy.WriteTo(static_cast<Storage*>(buffers_.dx) + at, rows.count, length,
               part_.streams ? Writes::kStreamed : Writes::kCached);
  }

  // SharesOfGroup of group.h for the groups of all rows.
  FirstOrderShares<V> SharesOfRows(FirstOrderSums<Doubles> sums, const TileRows& rows,
                                   V rstd) const {
    const Doubles drstd = ConvertTo<Doubles>(OfRows(buffers_.drstd, rows));
    sums.with_xhat = WithDrstd(sums.with_xhat, drstd, ConvertTo<Doubles>(rstd));
    const Doubles dmean = ConvertTo<Doubles>(OfRows(buffers_.dmean, rows));
    const FirstOrderShares<Doubles> exact =
        SharesOf(sums, dmean, SplatTo<Doubles>(1.0 / problem_.k), problem_.centred);
    return {ConvertTo<V>(exact.plain), ConvertTo<V>(exact.with_xhat),
            ConvertTo<V>(exact.offset)};
  }

  // A statistic of the rows, or zero if it is null.
  static FUSEDNORM_INLINE V OfRows(const void* statistics, const TileRows& rows) {
    if (statistics == nullptr) return V{};
    const auto* from = static_cast<const Scalar*>(statistics) + rows.first;
    return Load<Scalars>(from, Partial{rows.count});
  }

  const NormProblem& problem_;
  const Partition& part_;
  const BackwardBuffers& buffers_;
  Params<Scalar> params_;
  char* sets_ = nullptr;
  int64_t set_bytes_ = 0;
};
