// Tensors in the memory of CUDA devices, whoever's they are: in and out by DLPack.
#pragma once

#include <pybind11/pybind11.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "core/data_type.h"
#include "cuda/api/norm.h"
#include "python/dlpack.h"
#include "python/errors.h"

namespace fusednorm {

// Streams as Python and DLPack write them: the address of a cudaStream_t; none, 0 and 1
// are the legacy default stream.
cuda::Stream ToStream(std::optional<uintptr_t> address);

// Something that keeps memory alive. Destroyed from any thread.
class Storage {
 public:
  virtual ~Storage() = default;
  // From now on work on other streams than the memory's own may use it.
  virtual void Share() {}
};

// Dense and row-major.
class DeviceTensor {
 public:
  // The CUDA device of an object with DLPack's methods.
  static int DeviceOf(const std::string& argument, const py::object& array);
  // The object's memory, ready for work on the stream. The device must be current. The
  // tensor of another Import is taken as it is: whoever made it chose the stream.
  static DeviceTensor Import(const std::string& argument, const py::object& array,
                             cuda::Stream stream);
  // The same of bools or bytes. type() says nothing of them.
  static DeviceTensor ImportMask(const std::string& argument, const py::object& array,
                                 cuda::Stream stream);
  // New memory on the current device, which is `device`.
  static DeviceTensor New(const Shape& shape, DataType type, int device,
                          cuda::Stream stream);

  // Work on the stream fills the tensor anew.
  void WrittenOn(cuda::Stream stream) {
    if (stream_) stream_ = stream;
  }

  void* data() const { return data_; }
  const Shape& shape() const { return shape_; }
  DataType type() const { return type_; }
  int device() const { return device_; }
  bool read_only() const { return read_only_; }

  // DLPack's protocol; see there for the arguments.
  py::capsule ToDlpack(const py::object& stream, const py::object& max_version,
                       const py::object& dl_device, const py::object& copy) const;
  py::tuple ToDlpackDevice() const;

 private:
  // What DLPack says, but for the type, which it leaves to the caller.
  static DeviceTensor Receive(const std::string& argument, const py::object& array,
                              cuda::Stream stream, dlpack::Type* type);
  // Makes work on the stream wait for the work that fills this tensor.
  void MakeReadyFor(cuda::Stream stream) const;

  void* data_ = nullptr;
  Shape shape_;
  DataType type_ = DataType::kFloat;
  int device_ = 0;
  bool read_only_ = false;
  // That of the work that fills it; none if that is not ours.
  std::optional<cuda::Stream> stream_;
  std::shared_ptr<Storage> storage_;
};

}  // namespace fusednorm
