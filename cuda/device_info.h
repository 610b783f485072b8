// The CUDA devices of this machine.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace fusednorm {
namespace cuda {

struct DeviceInfo {
  std::string name;
  int major = 0;  // compute capability
  int minor = 0;
  int64_t memory_bytes = 0;
  int multiprocessors = 0;
};

// Empty where there is no device or no driver.
std::vector<DeviceInfo> ListDevices();

}  // namespace cuda
}  // namespace fusednorm
