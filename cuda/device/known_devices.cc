// Well-known GPUs, so that plans can be made without having one. The figures are from
// NVIDIA's data sheets and from the tables of compute capabilities in the CUDA C++
// Programming Guide.
#include <array>

#include "cuda/device/devices.h"

namespace fusednorm {
namespace cuda {
namespace {

constexpr int64_t kKib = 1024;
constexpr int64_t kMib = 1024 * kKib;
constexpr int64_t kGib = 1024 * kMib;

// The properties that all GPUs of a compute capability share.
struct Capability {
  int major;
  int minor;
  int max_threads;
  int64_t shared_kib;        // of a multiprocessor
  int64_t shared_block_kib;  // the most that a kernel can ask for
};
constexpr Capability kSm75 = {7, 5, 1024, 64, 64};
constexpr Capability kSm80 = {8, 0, 2048, 164, 163};
constexpr Capability kSm86 = {8, 6, 1536, 100, 99};
constexpr Capability kSm89 = {8, 9, 1536, 100, 99};
constexpr Capability kSm90 = {9, 0, 2048, 228, 227};
constexpr Capability kSm100 = {10, 0, 2048, 228, 227};
constexpr Capability kSm120 = {12, 0, 1536, 100, 99};

struct Known {
  const char* name;
  const Capability& capability;
  int multiprocessors;
  int64_t l2_kib;
  int64_t memory_gib;
  double gigabytes_per_second;
};
constexpr std::array<Known, 17> kKnown = {{
    {"a10", kSm86, 72, 6144, 24, 600},
    {"a100", kSm80, 108, 40960, 80, 2039},  // SXM, 80 GB
    {"a100-40gb", kSm80, 108, 40960, 40, 1555},
    {"a30", kSm80, 56, 24576, 24, 933},
    {"b200", kSm100, 148, 129024, 180, 8000},
    {"h100", kSm90, 132, 51200, 80, 3350},  // SXM
    {"h100-pcie", kSm90, 114, 51200, 80, 2000},
    {"h200", kSm90, 132, 51200, 141, 4800},
    {"l4", kSm89, 58, 49152, 24, 300},
    {"l40s", kSm89, 142, 98304, 48, 864},
    {"rtx2080ti", kSm75, 68, 5632, 11, 616},
    {"rtx3090", kSm86, 82, 6144, 24, 936},
    {"rtx4090", kSm89, 128, 73728, 24, 1008},
    {"rtx5090", kSm120, 170, 98304, 32, 1792},
    {"rtx6000ada", kSm89, 142, 98304, 48, 960},
    {"rtxa6000", kSm86, 84, 6144, 48, 768},
    {"t4", kSm75, 40, 4096, 16, 320},
}};

}  // namespace

std::vector<std::string> KnownDeviceNames() {
  std::vector<std::string> names;
  for (const Known& known : kKnown) names.push_back(known.name);
  return names;
}

Status KnownDevice(const std::string& name, Device* device) {
  std::string names;
  for (const Known& known : kKnown) {
    if (name == known.name) {
      const Capability& capability = known.capability;
      *device = Device();
      device->name = known.name;
      device->major = capability.major;
      device->minor = capability.minor;
      device->multiprocessors = known.multiprocessors;
      device->max_threads_per_multiprocessor = capability.max_threads;
      device->shared_bytes_per_multiprocessor = capability.shared_kib * kKib;
      device->shared_bytes_per_block = capability.shared_block_kib * kKib;
      device->l2_bytes = known.l2_kib * kKib;
      device->memory_bytes = known.memory_gib * kGib;
      device->bandwidth = known.gigabytes_per_second * 1e9;
      device->max_cluster = MaxCluster(capability.major);
      return Status();
    }
    names += (names.empty() ? "" : ", ") + std::string(known.name);
  }
  return Status::InvalidArgument("device must be one of " + names +
                                 ". Received: " + name);
}

}  // namespace cuda
}  // namespace fusednorm
