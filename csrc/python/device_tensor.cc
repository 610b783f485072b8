#include "python/device_tensor.h"

#include <pybind11/stl.h>

#include <atomic>
#include <iterator>
#include <utility>

#include "python/device_memory.h"

namespace fusednorm {
namespace {

// DLPack's number for it, where 0 would be ambiguous.
constexpr uintptr_t kLegacyDefaultStream = 1;

// Memory of our own. Freed in the order of its stream, unless others have had it: when
// they are done, only the device knows.
class OwnStorage : public Storage {
 public:
  OwnStorage(void* data, int device, cuda::Stream stream)
      : data_(data), device_(device), stream_(stream) {}
  ~OwnStorage() override {
    ScopedDevice current;
    if (!current.Enter(device_).ok()) return;  // the process is going down
    if (shared_) {
      // What the device waits for may itself wait for Python.
      std::optional<py::gil_scoped_release> release;
      if (Py_IsInitialized() && PyGILState_Check()) release.emplace();
      FreeAfterAll(data_);
    } else {
      FreeOn(stream_, data_);
    }
  }
  void Share() override { shared_ = true; }

 private:
  void* const data_;
  const int device_;
  const cuda::Stream stream_;
  std::atomic<bool> shared_{false};
};

// Memory that came by DLPack. Its deleter may call into Python.
template <class Managed>
class ImportedStorage : public Storage {
 public:
  explicit ImportedStorage(Managed* managed) : managed_(managed) {}
  ~ImportedStorage() override {
    if (managed_->deleter == nullptr || !Py_IsInitialized()) return;
    const py::gil_scoped_acquire acquire;
    managed_->deleter(managed_);
  }

 private:
  Managed* const managed_;
};

// A capsule's tensor, whose capsule then no longer owns it.
template <class Managed>
Managed* Take(const py::object& capsule) {
  void* pointer = PyCapsule_GetPointer(capsule.ptr(), Managed::kName);
  if (pointer == nullptr || PyCapsule_SetName(capsule.ptr(), Managed::kUsedName) != 0) {
    throw py::error_already_set();
  }
  return static_cast<Managed*>(pointer);
}

// What an exported tensor needs as long as others use it.
template <class Managed>
struct Export {
  Managed managed;
  Shape shape;
  Shape strides;
  std::shared_ptr<Storage> storage;
};

// Of a capsule that nobody has taken the tensor out of.
template <class Managed>
void Destroy(PyObject* capsule) {
  if (!PyCapsule_IsValid(capsule, Managed::kName)) return;
  auto* managed = static_cast<Managed*>(PyCapsule_GetPointer(capsule, Managed::kName));
  managed->deleter(managed);
}

template <class Managed>
py::capsule ToCapsule(std::unique_ptr<Export<Managed>> exported) {
  Managed& managed = exported->managed;
  managed.manager_ctx = exported.get();
  managed.deleter = [](Managed* self) {
    delete static_cast<Export<Managed>*>(self->manager_ctx);
  };
  PyObject* capsule = PyCapsule_New(&managed, Managed::kName, &Destroy<Managed>);
  if (capsule == nullptr) throw py::error_already_set();
  exported.release();
  return py::reinterpret_steal<py::capsule>(capsule);
}

Shape DenseStrides(const Shape& shape) {
  Shape strides(shape.size());
  int64_t stride = 1;
  for (size_t i = shape.size(); i-- > 0;) {
    strides[i] = stride;
    stride *= shape[i];
  }
  return strides;
}

void CheckDense(const std::string& argument, const Shape& shape,
                const int64_t* strides) {
  if (strides == nullptr) return;
  const Shape dense = DenseStrides(shape);
  bool differs = false;
  for (size_t i = 0; i < shape.size(); ++i) {
    if (shape[i] == 0) return;
    differs |= shape[i] != 1 && strides[i] != dense[i];
  }
  if (!differs) return;
  throw py::value_error(
      argument + " must be contiguous in row-major order, got strides " +
      ToString({strides, strides + shape.size()}) + " for shape " + ToString(shape));
}

struct TypeEntry {
  DataType type;
  dlpack::Type dlpack;
};
constexpr TypeEntry kTypes[] = {
    {DataType::kFloat, {dlpack::kFloat, 32, 1}},
    {DataType::kHalf, {dlpack::kFloat, 16, 1}},
    {DataType::kBfloat16, {dlpack::kBfloat, 16, 1}},
    {DataType::kDouble, {dlpack::kFloat, 64, 1}},
};

dlpack::Type ToDlpackType(DataType type) {
  for (const TypeEntry& entry : kTypes) {
    if (entry.type == type) return entry.dlpack;
  }
  return {};
}

constexpr dlpack::Type kMaskTypes[] = {{dlpack::kBool, 8, 1}, {dlpack::kUInt, 8, 1}};

bool Same(const dlpack::Type& a, const dlpack::Type& b) {
  return a.code == b.code && a.bits == b.bits && a.lanes == b.lanes;
}

std::string NameOf(const dlpack::Type& type) {
  static constexpr const char* kNames[] = {"int",    "uint",    "float", "opaque",
                                           "bfloat", "complex", "bool"};
  std::string name = type.code < std::size(kNames)
                         ? kNames[type.code]
                         : "type " + std::to_string(type.code) + " of bits ";
  name += std::to_string(type.bits);
  if (type.lanes != 1) name += "x" + std::to_string(type.lanes);
  return name;
}

DataType FromDlpackType(const std::string& argument, const dlpack::Type& type) {
  for (const TypeEntry& entry : kTypes) {
    if (Same(entry.dlpack, type)) return entry.type;
  }
  return DataTypeFromName(argument, NameOf(type));  // throws
}

void CheckMaskType(const std::string& argument, const dlpack::Type& type) {
  for (const dlpack::Type& known : kMaskTypes) {
    if (Same(known, type)) return;
  }
  throw py::value_error(argument + " must have dtype bool or uint8, got " +
                        NameOf(type));
}

std::string DeviceName(int type) {
  switch (type) {
    case dlpack::kCpu:
      return "the CPU";
    case dlpack::kCudaHost:
      return "pinned CPU memory";
    case dlpack::kCudaManaged:
      return "CUDA managed memory";
    case dlpack::kRocm:
      return "a ROCm device";
    default:
      return "DLPack device type " + std::to_string(type);
  }
}

void CheckDevice(const std::string& argument, int type) {
  if (type == dlpack::kCuda) return;
  throw py::value_error(argument + " must be on a CUDA device, got a tensor on " +
                        DeviceName(type));
}

}  // namespace

cuda::Stream ToStream(std::optional<uintptr_t> address) {
  return reinterpret_cast<cuda::Stream>(
      address.value_or(0) == kLegacyDefaultStream ? 0 : address.value_or(0));
}

int DeviceTensor::DeviceOf(const std::string& argument, const py::object& array) {
  if (py::isinstance<DeviceTensor>(array)) {
    return array.cast<const DeviceTensor&>().device();
  }
  if (!py::hasattr(array, "__dlpack__") || !py::hasattr(array, "__dlpack_device__")) {
    throw py::type_error(
        argument + " must be a tensor on a CUDA device with DLPack's methods, got " +
        py::str(py::type::handle_of(array).attr("__name__")).cast<std::string>());
  }
  const py::tuple device = array.attr("__dlpack_device__")();
  CheckDevice(argument, py::int_(device[0]).cast<int>());
  return py::int_(device[1]).cast<int>();
}

DeviceTensor DeviceTensor::Import(const std::string& argument, const py::object& array,
                                  cuda::Stream stream) {
  if (py::isinstance<DeviceTensor>(array)) {
    const auto& tensor = array.cast<const DeviceTensor&>();
    tensor.MakeReadyFor(stream);
    return tensor;
  }
  dlpack::Type type;
  DeviceTensor result = Receive(argument, array, stream, &type);
  result.type_ = FromDlpackType(argument, type);
  return result;
}

DeviceTensor DeviceTensor::ImportMask(const std::string& argument,
                                      const py::object& array, cuda::Stream stream) {
  if (py::isinstance<DeviceTensor>(array)) {
    CheckMaskType(argument, ToDlpackType(array.cast<const DeviceTensor&>().type()));
  }
  dlpack::Type type;
  DeviceTensor result = Receive(argument, array, stream, &type);
  CheckMaskType(argument, type);
  return result;
}

DeviceTensor DeviceTensor::Receive(const std::string& argument, const py::object& array,
                                   cuda::Stream stream, dlpack::Type* type) {
  const auto address = reinterpret_cast<uintptr_t>(stream);
  const py::int_ stream_argument(address == 0 ? kLegacyDefaultStream : address);
  const py::object dlpack = array.attr("__dlpack__");
  py::object capsule;
  try {
    capsule = dlpack(py::arg("stream") = stream_argument,
                     py::arg("max_version") = py::make_tuple(1, 0));
  } catch (const py::error_already_set& error) {
    // From before DLPack 1.0.
    if (!error.matches(PyExc_TypeError)) throw;
    capsule = dlpack(py::arg("stream") = stream_argument);
  }

  DeviceTensor result;
  const dlpack::Tensor* from = nullptr;
  if (PyCapsule_IsValid(capsule.ptr(), dlpack::ManagedVersioned::kName)) {
    auto* managed = Take<dlpack::ManagedVersioned>(capsule);
    result.storage_ =
        std::make_shared<ImportedStorage<dlpack::ManagedVersioned>>(managed);
    if (managed->version.major != 1) {
      throw py::buffer_error(argument + " must come as DLPack 1, got DLPack " +
                             std::to_string(managed->version.major));
    }
    result.read_only_ = (managed->flags & dlpack::kReadOnly) != 0;
    from = &managed->dl_tensor;
  } else {
    auto* managed = Take<dlpack::Managed>(capsule);
    result.storage_ = std::make_shared<ImportedStorage<dlpack::Managed>>(managed);
    from = &managed->dl_tensor;
  }
  CheckDevice(argument, from->device.device_type);
  result.device_ = from->device.device_id;
  result.shape_.assign(from->shape, from->shape + from->ndim);
  *type = from->dtype;
  CheckDense(argument, result.shape_, from->strides);
  result.data_ = static_cast<char*>(from->data) + from->byte_offset;
  return result;
}

DeviceTensor DeviceTensor::New(const Shape& shape, DataType type, int device,
                               cuda::Stream stream) {
  DeviceTensor result;
  result.shape_ = shape;
  result.type_ = type;
  result.device_ = device;
  result.stream_ = stream;
  int64_t bytes = SizeOf(type);
  for (const int64_t size : shape) bytes *= size;
  ThrowIfError(AllocateOn(stream, bytes, &result.data_));
  result.storage_ = std::make_shared<OwnStorage>(result.data_, device, stream);
  return result;
}

void DeviceTensor::MakeReadyFor(cuda::Stream stream) const {
  if (!stream_ || stream == *stream_) return;
  storage_->Share();
  ScopedDevice current;
  ThrowIfError(current.Enter(device_));
  ThrowIfError(MakeWait(stream, *stream_));
}

py::capsule DeviceTensor::ToDlpack(const py::object& stream,
                                   const py::object& max_version,
                                   const py::object& dl_device,
                                   const py::object& copy) const {
  if (!dl_device.is_none() && !dl_device.equal(ToDlpackDevice())) {
    throw py::buffer_error("dl_device must be None or the tensor's own device");
  }
  if (!copy.is_none() && copy.cast<bool>()) {
    throw py::buffer_error("copy must be None or False");
  }
  constexpr int64_t kNoWait = -1;
  if (stream.is_none() || stream.cast<int64_t>() != kNoWait) {
    MakeReadyFor(ToStream(stream.cast<std::optional<uintptr_t>>()));
  } else {
    storage_->Share();
  }

  const auto fill = [&](auto& exported) {
    exported.shape = shape_;
    exported.strides = DenseStrides(shape_);
    exported.storage = storage_;
    exported.managed.dl_tensor = {data_,
                                  {dlpack::kCuda, device_},
                                  static_cast<int32_t>(shape_.size()),
                                  ToDlpackType(type_),
                                  exported.shape.data(),
                                  exported.strides.data(),
                                  0};
  };
  if (!max_version.is_none() && max_version.cast<py::tuple>()[0].cast<int>() >= 1) {
    auto exported = std::make_unique<Export<dlpack::ManagedVersioned>>();
    fill(*exported);
    exported->managed.version = {1, 0};
    exported->managed.flags = read_only_ ? dlpack::kReadOnly : 0;
    return ToCapsule(std::move(exported));
  }
  if (read_only_) throw py::buffer_error("a read-only tensor needs max_version (1, 0)");
  auto exported = std::make_unique<Export<dlpack::Managed>>();
  fill(*exported);
  return ToCapsule(std::move(exported));
}

py::tuple DeviceTensor::ToDlpackDevice() const {
  return py::make_tuple(static_cast<int>(dlpack::kCuda), device_);
}

}  // namespace fusednorm
