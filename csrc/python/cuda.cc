// fusednorm._native.cuda: forward, backward and second_order on DLPack tensors.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <iterator>
#include <optional>
#include <string>
#include <vector>

#include "core/signature.h"
#include "cuda/api/norm.h"
#include "python/device_memory.h"
#include "python/device_tensor.h"
#include "python/devices.h"
#include "python/module.h"
#include "python/passes.h"

namespace fusednorm {
namespace {

// Where a call runs, and where its results go.
struct Target {
  std::optional<uintptr_t> stream;
  std::optional<py::sequence> out;
};

// The tensors of a call: all on one device, which is current meanwhile.
template <class Buffers>
class Tensors {
 public:
  // All are looked at before any is taken.
  Tensors(const Target& target, const Arguments& arguments)
      : stream_(ToStream(target.stream)),
        out_(std::size(kOutputs), py::none()),
        inputs_(std::size(kInputs)) {
    if (target.out) SetOut(*target.out);
    CheckDevice("x", arguments["x"]);
    for (const In<Buffers>& operand : kInputs) {
      const py::object& array = arguments[operand.name];
      if (!array.is_none() || NoneIsWrong(operand)) CheckDevice(operand.name, array);
    }
    for (size_t i = 0; i < out_.size(); ++i) {
      if (!out_[i].is_none()) CheckDevice(OutName(i), out_[i]);
    }
    ThrowIfError(current_.Enter(device_));
    for (size_t i = 0; i < inputs_.size(); ++i) {
      const py::object& array = arguments[kInputs[i].name];
      if (array.is_none()) continue;
      const auto import = kInputs[i].part == Part::kMask ? &DeviceTensor::ImportMask
                                                         : &DeviceTensor::Import;
      inputs_[i] = import(kInputs[i].name, array, stream_);
    }
  }

  std::vector<std::optional<Given>> given() const {
    std::vector<std::optional<Given>> given;
    for (size_t i = 0; i < inputs_.size(); ++i) {
      std::optional<Given>& each = given.emplace_back();
      if (!inputs_[i]) continue;
      each = {inputs_[i]->shape(), std::nullopt};
      if (kInputs[i].part != Part::kMask) each->type = inputs_[i]->type();
    }
    return given;
  }

  // Enqueues the kernels. Returns the outputs, given or made; None for those that the
  // problem does not have, and for gradients of parameters that are not wanted.
  py::tuple Run(const Resolved& call, bool params) {
    Buffers buffers;
    for (size_t i = 0; i < inputs_.size(); ++i) {
      if (inputs_[i]) buffers.*kInputs[i].buffer = Input(call, i);
    }
    for (size_t i = 0; i < out_.size(); ++i) {
      const Out<Buffers>& operand = kOutputs[i];
      const bool exists = Has(call.problem, call.problem.centred, operand.with) &&
                          (operand.part != Part::kParams || params);
      if (exists) {
        buffers.*operand.buffer = Output(call, i);
      } else if (!out_[i].is_none()) {
        throw py::value_error(OutName(i) + " must be None: there is no such output");
      } else {
        results_.append(py::none());
      }
    }
    Status status;
    {
      const py::gil_scoped_release release;
      status = Enqueue(call.problem, buffers, stream_);
    }
    ThrowIfError(status);
    return py::tuple(results_);
  }

 private:
  static constexpr const auto& kInputs = Signature<Buffers>::kInputs;
  static constexpr const auto& kOutputs = Signature<Buffers>::kOutputs;

  static bool NoneIsWrong(const In<Buffers>& operand) {
    return IsRequired(operand.with) && operand.with.norms == Norms::kAll;
  }

  // The memory of an input that there is.
  const void* Input(const Resolved& call, size_t i) const {
    const DeviceTensor& tensor = *inputs_[i];
    const Part part = kInputs[i].part;
    CheckShape(kInputs[i].name, tensor.shape(), call.ShapeOf(part));
    if (part != Part::kMask) {
      CheckArray(kInputs[i].name, tensor.shape(), tensor.type(), call.ShapeOf(part),
                 TypeOf(call.problem, part));
    }
    return tensor.data();
  }

  // The memory of an output: given, or new.
  void* Output(const Resolved& call, size_t i) {
    const py::object& given = out_[i];
    const Shape& shape = call.ShapeOf(kOutputs[i].part);
    const DataType type = TypeOf(call.problem, kOutputs[i].part);
    DeviceTensor tensor = given.is_none()
                              ? DeviceTensor::New(shape, type, device_, stream_)
                              : DeviceTensor::Import(OutName(i), given, stream_);
    CheckArray(OutName(i), tensor.shape(), tensor.type(), shape, type);
    if (tensor.read_only()) {
      throw py::value_error(OutName(i) + " must not be read-only");
    }
    if (py::isinstance<DeviceTensor>(given)) {
      given.cast<DeviceTensor&>().WrittenOn(stream_);
    }
    outputs_.push_back(tensor);
    results_.append(given.is_none() ? py::cast(tensor) : given);
    return tensor.data();
  }

  void SetOut(const py::sequence& out) {
    if (out.size() != out_.size()) {
      std::string names;
      for (const Out<Buffers>& operand : kOutputs) {
        names += (names.empty() ? "" : ", ") + std::string(operand.name);
      }
      throw py::value_error("out must be (" + names + "), got " +
                            std::to_string(out.size()) + " values");
    }
    for (size_t i = 0; i < out_.size(); ++i) out_[i] = out[i];
  }

  std::string OutName(size_t i) const {
    return "out[" + std::to_string(i) + "] (" + kOutputs[i].name + ")";
  }

  void CheckDevice(const std::string& name, const py::object& array) {
    const int device = DeviceTensor::DeviceOf(name, array);
    if (device_ < 0) {
      device_ = device;
      first_ = name;
    }
    if (device == device_) return;
    throw py::value_error(name + " must be on the CUDA device of " + first_ + ", " +
                          std::to_string(device_) + ", got " + std::to_string(device));
  }

  const cuda::Stream stream_;
  std::vector<py::object> out_;
  int device_ = -1;
  std::string first_;
  ScopedDevice current_;
  std::vector<std::optional<DeviceTensor>> inputs_;
  std::vector<DeviceTensor> outputs_;
  py::list results_;
};

template <class Buffers>
py::tuple RunPass(const Arguments& arguments, bool params) {
  const Target target{arguments.Get<std::optional<uintptr_t>>("stream"),
                      arguments.Get<std::optional<py::sequence>>("out")};
  Tensors<Buffers> tensors(target, arguments);
  const Spec spec = SpecOf(arguments, Signature<Buffers>::kHasActivation);
  return tensors.Run(Resolve<Buffers>(spec, tensors.given()), params);
}

py::list DeviceDicts() {
  py::list devices;
  for (const cuda::Device& device : Devices()) devices.append(ToDict(device));
  return devices;
}

py::dict FirstDeviceDict() {
  cuda::Device device;
  ThrowIfError(FirstDevice(&device));
  return ToDict(device);
}

// A summary for people.
py::list CudaDevices() {
  py::list devices;
  for (const cuda::Device& device : Devices()) {
    py::dict summary;
    summary["name"] = device.name;
    summary["compute_capability"] =
        std::to_string(device.major) + "." + std::to_string(device.minor);
    summary["memory_bytes"] = device.memory_bytes;
    summary["multiprocessors"] = device.multiprocessors;
    devices.append(summary);
  }
  return devices;
}

void DefineTensor(py::module_& m) {
  py::class_<DeviceTensor>(m, "Tensor", R"doc(A dense tensor on a CUDA device.

What forward and backward return, for `torch.from_dlpack` and its like. The memory
belongs to the stream of that call, which must live as long.

Made of another tensor, it saves forward and backward the time to ask that tensor in
every call. It is then ready for work on the stream given here; any other is to be
ordered by the caller.

Args:
    array: anything that forward takes.
    stream: as in forward.
)doc")
      .def(py::init([](const py::object& array, std::optional<uintptr_t> stream) {
             const int device = DeviceTensor::DeviceOf("array", array);
             ScopedDevice current;
             ThrowIfError(current.Enter(device));
             return DeviceTensor::Import("array", array, ToStream(stream));
           }),
           py::arg("array"), py::kw_only(), py::arg("stream") = py::none())
      .def_property_readonly(
          "shape",
          [](const DeviceTensor& self) { return py::tuple(py::cast(self.shape())); })
      .def_property_readonly("dtype",
                             [](const DeviceTensor& self) { return Name(self.type()); })
      .def_property_readonly("device", &DeviceTensor::device)
      .def("__dlpack__", &DeviceTensor::ToDlpack, py::kw_only(),
           py::arg("stream") = py::none(), py::arg("max_version") = py::none(),
           py::arg("dl_device") = py::none(), py::arg("copy") = py::none())
      .def("__dlpack_device__", &DeviceTensor::ToDlpackDevice);
}

}  // namespace

void DefineCuda(py::module_& m) {
  m.def("cuda_devices", &CudaDevices,
        "The CUDA devices as dicts; empty without a device or a CUDA build.");

  py::module_ cuda = m.def_submodule("cuda", "The norm kernels on CUDA devices.");
  cuda.def("devices", &DeviceDicts,
           "All properties of the CUDA devices, as plan takes them for a device.");
  cuda.def(
      "first_device", &FirstDeviceDict,
      "The properties of the first device as launches see them: max_cluster is what "
      "runs there. RuntimeError where there is no device.");
  DefineTensor(cuda);

  const Parameter params{"params", "bool", "also the gradients of parameters",
                         py::bool_(true), true};
  const Parameter stream{
      "stream", "int | None",
      R"doc(address of the cudaStream_t to run on, a stream of that device; None or 0
        is the legacy default stream. DLPack does not say which stream a framework is
        using: pass torch.cuda.current_stream().cuda_stream, or
        cupy.cuda.get_current_stream().ptr)doc",
      py::none(), true};
  const Parameter out{"out", "collections.abc.Sequence[object] | None",
                      R"doc(what to write to: for each of the results None, which is a
        new Tensor, or a tensor like the inputs; None is None for each)doc",
                      py::none(), true};
  DefinePass<ForwardBuffers>(
      cuda, ParametersOf<ForwardBuffers>("object", {stream, out}),
      R"doc(Normalizes x on its CUDA device. Returns before the result is there.

As _native.forward, but of contiguous tensors of anything that speaks DLPack (PyTorch,
CuPy, JAX), all on one device; mask of bool or uint8.)doc",
      R"doc(Returns:
    (y, sum or None, mean or None, rstd). y may be in the place of x or of the residual,
    and sum in that of the other.

Raises:
    TypeError, ValueError: an argument does not fit; the message names it.
    RuntimeError: a CUDA error, or a build without CUDA kernels.
    MemoryError: no device memory left for results or workspace.
)doc",
      [](const Arguments& arguments) {
        return RunPass<ForwardBuffers>(arguments, /*params=*/true);
      });
  DefinePass<BackwardBuffers>(
      cuda, ParametersOf<BackwardBuffers>("object", {params, stream, out}),
      "Gradients of forward, on the CUDA device of x, as _native.backward.",
      R"doc(Returns:
    (dx, dgamma or None, dbeta or None); the gradient of the residual is dx, which may
    be in the place of dy, x or dsum.
)doc",
      [](const Arguments& arguments) {
        return RunPass<BackwardBuffers>(arguments, arguments.Get<bool>("params"));
      });
  DefinePass<SecondOrderBuffers>(
      cuda, ParametersOf<SecondOrderBuffers>("object", {params, stream, out}),
      "Gradients of backward without activation, on the CUDA device of x.",
      R"doc(Returns:
    (d_dy, d_x, d_gamma or None, d_dmean or None, d_drstd), as _native.second_order.
    d_dy and d_x may be in the places of two of dy, x and ddx.
)doc",
      [](const Arguments& arguments) {
        return RunPass<SecondOrderBuffers>(arguments, arguments.Get<bool>("params"));
      });
}

}  // namespace fusednorm
