// What the plan needs to know of a GPU, and that of well-known ones.
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
  double bandwidth = 0;  // bytes a second by the data sheet; 0: not known

  // Blocks in a thread-block cluster, at most; 1 where there are none.
  int max_cluster = 1;
};

// Blocks in a thread-block cluster, at most, by the major compute capability; 1 where
// there are none.
constexpr int MaxCluster(int major) {
  return major < 9 ? 1 : major == 9 || major == 10 ? 16 : 8;
}

// What the largest cluster that runs on a device may have of blocks, largest first,
// where the architecture allows `max_cluster`. The architecture is known without a
// context. What runs is not: it is less where fewer multiprocessors form a group, or
// only a part of a device is at hand (MIG).
inline std::vector<int> PossibleClusters(int max_cluster) {
  std::vector<int> sizes;
  for (int size = max_cluster; size > 1; size /= 2) sizes.push_back(size);
  sizes.push_back(1);
  return sizes;
}

// The names KnownDevice takes: h100, a100, l4, rtx4090, t4, ...
std::vector<std::string> KnownDeviceNames();
Status KnownDevice(const std::string& name, Device* device);

}  // namespace cuda
}  // namespace fusednorm
