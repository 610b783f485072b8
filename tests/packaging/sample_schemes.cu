// Kernels that test_stream_tile_budgets.py compiles and reads: one for each of `stream`
// and `tile` that is as it should be, and one for each fault that a budget forbids.

namespace fusednorm::cuda {

template <bool kGeneral, bool kWide>
struct StreamFeatures;
template <bool kColumns, bool kWide>
struct TileFeatures;

}  // namespace fusednorm::cuda

namespace fault {

struct None {};
struct ScalarLoad {};   // in the loop of sums
struct Division {};     // likewise, by a run-time integer
struct Call {};         // on the way to that loop
struct RareCall {};     // with more work behind it, outside of the loops
struct FewVectors {};   // one instead of four in that loop
struct ScalarStore {};  // in a loop of apply
struct NoSwitch {};     // one loop for all activations
struct MoreWork {};     // in the loops
struct LongerWay {};    // before them
struct OtherItem {};    // an item of another kind, with more work

}  // namespace fault

template <typename A, typename B>
constexpr bool kSame = false;
template <typename A>
constexpr bool kSame<A, A> = true;

__device__ __noinline__ float Called(float value, const float* table) {
  return value > 0 ? table[int(value)] : value;
}
// Some additions and multiplications that stay, one after the other.
__device__ float Work(float value, float factor) {
#pragma unroll
  for (int i = 0; i < 200; ++i) value = value * factor + value;
  return value;
}

struct Identity {
  __device__ float operator()(float z) const { return z; }
};
struct Positive {
  __device__ float operator()(float z) const { return z > 0 ? z : 0; }
};
struct Leaky {
  __device__ float operator()(float z) const { return z > 0 ? z : z * 0.2f; }
};
struct Exponential {
  __device__ float operator()(float z) const { return z * __expf(z); }
};
template <typename Loop>
__device__ void WithActivation(int activation, const Loop& loop) {
  switch (activation) {
    case 0:
      return loop(Identity());
    case 1:
      return loop(Positive());
    case 2:
      return loop(Leaky());
    case 3:
      return loop(Exponential());
  }
}
template <typename Act>
__device__ float4 Activated(const Act& act, float4 z, float sum) {
  return make_float4(act(z.x * sum), act(z.y * sum), act(z.z * sum), act(z.w * sum));
}

// The life of a block of `stream`.
template <typename Fault>
__device__ void RunItems(const float4* __restrict__ x, float4* __restrict__ y,
                         float* __restrict__ sums, int items, int n, int activation) {
  const int step = blockDim.x;
  for (int item = blockIdx.x; item < items; item += gridDim.x) {
    const float4* const from = x + item / 2 * n;
    if (kSame<Fault, fault::OtherItem> && item == items - 1) {
      y[item].x = Work(item, n);
    } else if (item % 2 == 0) {
      float sum = 0;
      if (kSame<Fault, fault::Call>) sum = Called(item, sums);
      if (kSame<Fault, fault::LongerWay>) sum = Work(item, n);
      constexpr int kVectors = kSame<Fault, fault::FewVectors> ? 1 : 4;
#pragma unroll 1
      for (int i = threadIdx.x; i < n; i += kVectors * step) {
        float4 held[kVectors];
        for (int v = 0; v < kVectors; ++v) held[v] = from[i + v * step];
        for (int v = 0; v < kVectors; ++v) {
          sum += held[v].x + held[v].y + held[v].z + held[v].w;
        }
        if (kSame<Fault, fault::ScalarLoad>) sum += sums[i];
        if (kSame<Fault, fault::Division>) sum += i / activation;
        if (kSame<Fault, fault::MoreWork>) sum = Work(sum, held[0].x);
      }
      if (kSame<Fault, fault::RareCall> && sum > 1) {
        sum = Called(sum, sums);
        sum = Work(sum, sum);
      }
      sums[item * step + threadIdx.x] = sum;
    } else {
      const float sum = sums[item * step + threadIdx.x];
      const auto apply = [&](const auto& act) {
#pragma unroll 1
        for (int i = threadIdx.x; i < n; i += 4 * step) {
          float4 held[4];
          for (int v = 0; v < 4; ++v) held[v] = from[i + v * step];
          for (int v = 0; v < 4; ++v) {
            y[item / 2 * n + i + v * step] = Activated(act, held[v], sum);
          }
          if (kSame<Fault, fault::ScalarStore>) sums[i] = held[0].x;
        }
      };
      if (kSame<Fault, fault::NoSwitch>) {
        apply(Identity());
      } else {
        WithActivation(activation, apply);
      }
    }
  }
}

// The same for `tile`, which has no vector loops.
template <typename Fault>
__device__ void RunTile(const float4* __restrict__ x, float4* __restrict__ y,
                        const float* __restrict__ table, int activation) {
  const int first = 2 * blockIdx.x * blockDim.x + threadIdx.x;
  float4 held[2] = {x[first], x[first + blockDim.x]};
  float sum = held[0].x + held[1].x;
  if (kSame<Fault, fault::Call>) sum = Called(sum, table);
  if (kSame<Fault, fault::LongerWay>) sum = Work(sum, held[0].y);
  if (kSame<Fault, fault::MoreWork>) sum = Work(sum, __expf(sum));
  WithActivation(activation, [&](const auto& act) {
    for (int v = 0; v < 2; ++v) held[v] = Activated(act, held[v], sum);
  });
  // A narrow store where there should be two wide ones.
  if constexpr (kSame<Fault, fault::ScalarStore>) {
    reinterpret_cast<float*>(y)[first] = held[0].x + held[1].y;
  } else {
    for (int v = 0; v < 2; ++v) y[first + v * blockDim.x] = held[v];
  }
}

template <typename Fault>
__global__ void Items(const float4* x, float4* y, float* sums, int items, int n,
                      int activation) {
  RunItems<Fault>(x, y, sums, items, n, activation);
}
template <typename Fault>
__global__ void Tile(const float4* x, float4* y, const float* table, int activation) {
  RunTile<Fault>(x, y, table, activation);
}
#define FUSEDNORM_ITEMS(Fault) \
  template __global__ void Items<Fault>(const float4*, float4*, float*, int, int, int);
#define FUSEDNORM_TILE(Fault) \
  template __global__ void Tile<Fault>(const float4*, float4*, const float*, int);
FUSEDNORM_ITEMS(fault::ScalarLoad)
FUSEDNORM_ITEMS(fault::Division)
FUSEDNORM_ITEMS(fault::Call)
FUSEDNORM_ITEMS(fault::RareCall)
FUSEDNORM_ITEMS(fault::FewVectors)
FUSEDNORM_ITEMS(fault::ScalarStore)
FUSEDNORM_ITEMS(fault::NoSwitch)
FUSEDNORM_ITEMS(fault::MoreWork)
FUSEDNORM_ITEMS(fault::LongerWay)
FUSEDNORM_ITEMS(fault::OtherItem)
FUSEDNORM_TILE(fault::Call)
FUSEDNORM_TILE(fault::ScalarStore)
FUSEDNORM_TILE(fault::LongerWay)
FUSEDNORM_TILE(fault::MoreWork)

namespace fusednorm::cuda {

template <typename T, typename Features>
__global__ void StreamLinesForward(const float4* x, float4* y, float* sums, int items,
                                   int n, int activation) {
  RunItems<fault::None>(x, y, sums, items, n, activation);
}
template <typename T, int kVectors, typename Features>
__global__ void TileForward(const float4* x, float4* y, const float* table,
                            int activation) {
  RunTile<fault::None>(x, y, table, activation);
}

template __global__ void StreamLinesForward<float, StreamFeatures<false, true>>(
    const float4*, float4*, float*, int, int, int);
template __global__ void TileForward<float, 2, TileFeatures<false, true>>(const float4*,
                                                                          float4*,
                                                                          const float*,
                                                                          int);

}  // namespace fusednorm::cuda
