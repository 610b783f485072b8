#include "python/devices.h"

#include <string>

#include "python/errors.h"

namespace fusednorm {
namespace {

// Calls visit(name, member) for every field, in the order of the struct.
template <class Device, class Visitor>
void VisitFields(Device& device, Visitor&& visit) {
  visit("name", device.name);
  visit("major", device.major);
  visit("minor", device.minor);
  visit("multiprocessors", device.multiprocessors);
  visit("max_threads_per_multiprocessor", device.max_threads_per_multiprocessor);
  visit("registers_per_multiprocessor", device.registers_per_multiprocessor);
  visit("shared_bytes_per_multiprocessor", device.shared_bytes_per_multiprocessor);
  visit("shared_bytes_per_block", device.shared_bytes_per_block);
  visit("l2_bytes", device.l2_bytes);
  visit("memory_bytes", device.memory_bytes);
  visit("bandwidth", device.bandwidth);
  visit("max_cluster", device.max_cluster);
}

}  // namespace

py::dict ToDict(const cuda::Device& device) {
  py::dict fields;
  VisitFields(device,
              [&](const char* name, const auto& value) { fields[name] = value; });
  return fields;
}

cuda::Device DeviceFromDict(const py::dict& fields) {
  cuda::Device device;
  size_t known = 0;
  VisitFields(device, [&](const char* name, auto& value) {
    ++known;
    if (!fields.contains(name)) {
      throw py::value_error(std::string("device must have the field ") + name +
                            "; known_devices() has examples");
    }
    const py::object field = fields[name];
    try {
      value = field.cast<std::decay_t<decltype(value)>>();
    } catch (const py::cast_error&) {
      throw py::type_error(std::string("device[\"") + name +
                           "\"] has the wrong type, got " +
                           py::repr(field).cast<std::string>());
    }
  });
  if (fields.size() != known) {
    const py::dict all = ToDict(device);
    for (const auto& field : fields) {
      if (all.contains(field.first)) continue;
      throw py::value_error("device has no field " +
                            py::repr(field.first).cast<std::string>());
    }
  }
  return device;
}

}  // namespace fusednorm
