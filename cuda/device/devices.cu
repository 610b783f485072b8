// The CUDA devices of this machine.
#include <cuda_runtime.h>

#include <mutex>
#include <string>
#include <vector>

#include "cuda/api/norm.h"
#include "cuda/device/devices.h"
#include "cuda/kernels/common/launch.cuh"

namespace fusednorm {
namespace cuda {
namespace {

// A kernel that is launched with as many resources as any of ours: one block takes a
// whole multiprocessor.
__global__ void FillMultiprocessor() {}

// The largest of PossibleClusters that the current device runs.
int UsableCluster(const Device& device) {
  const void* kernel = reinterpret_cast<const void*>(FillMultiprocessor);
  const int shared_bytes = static_cast<int>(device.shared_bytes_per_block);
  if (device.max_cluster == 1 ||
      cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                           shared_bytes) != cudaSuccess ||
      cudaFuncSetAttribute(kernel, cudaFuncAttributeNonPortableClusterSizeAllowed, 1) !=
          cudaSuccess) {
    cudaGetLastError();
    return 1;
  }
  for (const int cluster : PossibleClusters(device.max_cluster)) {
    if (cluster == 1) break;
    cudaLaunchAttribute attribute = {};
    attribute.id = cudaLaunchAttributeClusterDimension;
    attribute.val.clusterDim.x = static_cast<unsigned>(cluster);
    attribute.val.clusterDim.y = 1;
    attribute.val.clusterDim.z = 1;
    cudaLaunchConfig_t config = {};
    config.gridDim = dim3(static_cast<unsigned>(cluster));
    config.blockDim = dim3(512);
    config.dynamicSmemBytes = static_cast<size_t>(shared_bytes);
    config.attrs = &attribute;
    config.numAttrs = 1;
    int clusters = 0;
    if (cudaOccupancyMaxActiveClusters(&clusters, kernel, &config) == cudaSuccess &&
        clusters > 0) {
      return cluster;
    }
    cudaGetLastError();
  }
  return 1;
}

Status ReadDevice(int ordinal, Device* device) {
  cudaDeviceProp properties;
  FUSEDNORM_RETURN_IF_ERROR(device::ToStatus(
      cudaGetDeviceProperties(&properties, ordinal),
      "reading the properties of CUDA device " + std::to_string(ordinal)));
  device->name = properties.name;
  device->major = properties.major;
  device->minor = properties.minor;
  device->multiprocessors = properties.multiProcessorCount;
  device->max_threads_per_multiprocessor = properties.maxThreadsPerMultiProcessor;
  device->registers_per_multiprocessor = properties.regsPerMultiprocessor;
  device->shared_bytes_per_multiprocessor =
      static_cast<int64_t>(properties.sharedMemPerMultiprocessor);
  device->shared_bytes_per_block =
      static_cast<int64_t>(properties.sharedMemPerBlockOptin);
  device->l2_bytes = properties.l2CacheSize;
  device->memory_bytes = static_cast<int64_t>(properties.totalGlobalMem);
  device->max_cluster = MaxCluster(properties.major);
  // Memory transfers data on both edges of the clock, hence twice its rate. Some
  // devices do not have this attribute.
  int kilohertz = 0;
  if (cudaDeviceGetAttribute(&kilohertz, cudaDevAttrMemoryClockRate, ordinal) ==
      cudaSuccess) {
    device->bandwidth = 2e3 * kilohertz * properties.memoryBusWidth / 8;
  }
  return Status();
}

// Properties of each device. They are read when the device is first the current one,
// and never change after.
class Devices {
 public:
  Status Get(int ordinal, const Device** device) {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (entries_.size() <= static_cast<size_t>(ordinal)) {
      entries_.resize(static_cast<size_t>(ordinal) + 1, nullptr);
    }
    const Device*& entry = entries_[static_cast<size_t>(ordinal)];
    if (entry == nullptr) {
      Device read;
      FUSEDNORM_RETURN_IF_ERROR(ReadDevice(ordinal, &read));
      read.max_cluster = UsableCluster(read);
      entry = new Device(read);  // lives as long as the process
    }
    *device = entry;
    return Status();
  }

 private:
  std::mutex mutex_;
  std::vector<const Device*> entries_;
};

Devices& UsedDevices() {
  static Devices* devices = new Devices;
  return *devices;
}

}  // namespace

std::vector<Device> ListDevices() {
  std::vector<Device> devices;
  int count = 0;
  if (cudaGetDeviceCount(&count) != cudaSuccess) {
    cudaGetLastError();
    return devices;
  }
  for (int ordinal = 0; ordinal < count; ++ordinal) {
    // No context, since that would take memory on each device. max_cluster is therefore
    // what the architecture allows.
    Device device;
    if (ReadDevice(ordinal, &device).ok()) devices.push_back(device);
  }
  return devices;
}

Status CurrentDevice(const Device** device) {
  int ordinal = 0;
  FUSEDNORM_RETURN_IF_ERROR(
      device::ToStatus(cudaGetDevice(&ordinal), "finding the current CUDA device"));
  return UsedDevices().Get(ordinal, device);
}

ScopedDevice::~ScopedDevice() {
  if (previous_ >= 0) cudaSetDevice(previous_);
}

Status ScopedDevice::Enter(int device) {
  int current = -1;
  FUSEDNORM_RETURN_IF_ERROR(
      device::ToStatus(cudaGetDevice(&current), "finding the current CUDA device"));
  if (current == device) return Status();
  FUSEDNORM_RETURN_IF_ERROR(
      device::ToStatus(cudaSetDevice(device), "selecting a CUDA device"));
  previous_ = current;
  return Status();
}

}  // namespace cuda
}  // namespace fusednorm
