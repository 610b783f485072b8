// The properties of a GPU that the plan needs, and those of well-known GPUs.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/status.h"

namespace fusednorm {
namespace cuda {

struct Device {
  std::string name;
  int major = 0;  // compute capability
  int minor = 0;
  int multiprocessors = 1;
  int max_threads_per_multiprocessor = 2048;
  int64_t registers_per_multiprocessor = 65536;
  int64_t shared_bytes_per_multiprocessor = 0;
  int64_t shared_bytes_per_block = 0;  // the most that a kernel can ask for
  int64_t l2_bytes = 0;
  int64_t memory_bytes = 0;
  double bandwidth = 0;  // bytes a second, from the data sheet; 0: not known

  // The most blocks of a thread-block cluster; 1 where there are no clusters.
  int max_cluster = 1;
};

// The most blocks of a thread-block cluster, from the major compute capability; 1 where
// there are no clusters.
constexpr int MaxCluster(int major) {
  return major < 9 ? 1 : major == 9 || major == 10 ? 16 : 8;
}

// The numbers of blocks that the largest cluster that runs on a device may have,
// largest first. The architecture allows `max_cluster`, and is known without a context.
// Fewer may run where groups of multiprocessors are smaller, or where only a part of
// the device is available (MIG).
inline std::vector<int> PossibleClusters(int max_cluster) {
  std::vector<int> sizes;
  for (int size = max_cluster; size > 1; size /= 2) sizes.push_back(size);
  sizes.push_back(1);
  return sizes;
}

// The names that KnownDevice takes: h100, a100, l4, rtx4090, t4, ...
std::vector<std::string> KnownDeviceNames();
Status KnownDevice(const std::string& name, Device* device);

}  // namespace cuda
}  // namespace fusednorm
