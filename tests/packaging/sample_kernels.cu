// Kernels that test_machine_code.py compiles and reads: one that is as it should be,
// and one for each fault that a budget forbids.

namespace fusednorm::cuda {

struct Bfloat16;
template <bool kCentred, bool kResidual>
struct Plain;
struct General;

// As it should be: a loop over rows, 16-byte accesses, a warp's sum by shuffles.
template <typename T, int kVectors, bool kBlock, typename Features>
__global__ void RowsForward(const float4* __restrict__ x, float4* __restrict__ y,
                            int rows) {
  for (int row = blockIdx.x; row < rows; row += gridDim.x) {
    const int first = row * 32 * kVectors + threadIdx.x;
    float4 held[kVectors];
    float sum = 0;
    for (int v = 0; v < kVectors; ++v) {
      held[v] = x[first + v * 32];
      sum += held[v].x + held[v].y + held[v].z + held[v].w;
    }
    for (int lane = 16; lane > 0; lane /= 2) sum += __shfl_xor_sync(~0u, sum, lane);
    for (int v = 0; v < kVectors; ++v) {
      held[v].x *= sum;
      y[first + v * 32] = held[v];
    }
  }
}

template __global__ void RowsForward<Bfloat16, 2, false, Plain<true, false>>(
    const float4* __restrict__ x, float4* __restrict__ y, int rows);
template __global__ void RowsForward<Bfloat16, 2, false, General>(
    const float4* __restrict__ x, float4* __restrict__ y, int rows);

}  // namespace fusednorm::cuda

__global__ void OneShot(const float4* __restrict__ x, float4* __restrict__ y, int n) {
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= n) return;
  float4 held = x[i];
  held.x += 1;
  y[i] = held;
}

__global__ void ScalarLoads(const float* __restrict__ x, float4* __restrict__ y,
                            int n) {
#pragma unroll 1
  for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < n;
       i += gridDim.x * blockDim.x) {
    const float* from = x + 3 * i;
    y[i] = make_float4(from[0], from[1], from[2], 0);
  }
}

__global__ void ScalarStores(const float4* __restrict__ x, float* __restrict__ y,
                             int n) {
#pragma unroll 1
  for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < n;
       i += gridDim.x * blockDim.x) {
    const float4 held = x[i];
    float* to = y + 3 * i;
    to[0] = held.x;
    to[1] = held.y;
    to[2] = held.z;
  }
}

// An array that is indexed at run time cannot stay in registers.
__global__ void LocalArray(const float4* __restrict__ x, float4* __restrict__ y, int n,
                           const int* __restrict__ order) {
  float held[64] = {};
  for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < n;
       i += gridDim.x * blockDim.x) {
    const float4 value = x[i];
    held[order[i] & 63] += value.x;
    y[i] = make_float4(held[i & 63], value.y, value.z, value.w);
  }
}

// The divisor is the same in all turns of the loop, or another in each.
template <typename Integer, bool kSame>
__global__ void Division(const float4* __restrict__ x, float4* __restrict__ y, int n,
                         Integer divisor) {
#pragma unroll 1
  for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < n;
       i += gridDim.x * blockDim.x) {
    float4 held = x[i];
    held.x += Integer(i) / Integer(kSame ? divisor : divisor + i);
    y[i] = held;
  }
}

template __global__ void Division<int, true>(const float4*, float4*, int, int);
template __global__ void Division<int, false>(const float4*, float4*, int, int);
template __global__ void Division<unsigned, true>(const float4*, float4*, int,
                                                  unsigned);
template __global__ void Division<unsigned short, true>(const float4*, float4*, int,
                                                        unsigned short);
template __global__ void Division<long long, true>(const float4*, float4*, int,
                                                   long long);

// No division by a run-time integer in the loop: one before it, in it one by a constant
// and one of floats.
__global__ void OtherDivisions(const float4* __restrict__ x, float4* __restrict__ y,
                               int n, int divisor) {
  const int offset = n / divisor;
#pragma unroll 1
  for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < n;
       i += gridDim.x * blockDim.x) {
    float4 held = x[i];
    held.x = held.x / held.y + i / 77;
    y[i + offset] = held;
  }
}

__global__ void SharedSum(const float4* __restrict__ x, float4* __restrict__ y,
                          int rows) {
  __shared__ float sums[8];
#pragma unroll 1
  for (int row = blockIdx.x; row < rows; row += gridDim.x) {
    float4 held = x[row * 256 + threadIdx.x];
    if (threadIdx.x % 32 == 0) sums[threadIdx.x / 32] = held.x;
    __syncthreads();
    held.y += sums[threadIdx.x % 8];
    __syncthreads();
    y[row * 256 + threadIdx.x] = held;
  }
}
