// fusednorm._native.cuda: forward, backward and second_order on DLPack tensors.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <optional>
#include <string>
#include <vector>

#include "core/problem.h"
#include "cuda/api/norm.h"
#include "python/device_memory.h"
#include "python/device_tensor.h"
#include "python/devices.h"
#include "python/module.h"
#include "python/spec.h"

namespace fusednorm {
namespace {

// Where a call runs, and where its results go.
struct Target {
  std::optional<uintptr_t> stream;
  std::optional<py::sequence> out;
};

struct NamedArray {
  const char* name;
  const py::object& array;
  bool optional = true;  // may be None
  bool is_mask = false;
};

// The tensors of a call: all on one device, which is current meanwhile.
class Tensors {
 public:
  // The first array says which device. All are looked at before any is taken.
  Tensors(const Target& target, const std::vector<NamedArray>& inputs,
          const std::vector<const char*>& outputs)
      : stream_(ToStream(target.stream)),
        out_(outputs.size(), py::none()),
        names_(outputs) {
    if (target.out) SetOut(*target.out);
    for (const NamedArray& input : inputs) {
      if (input.optional && input.array.is_none()) continue;
      CheckDevice(input.name, input.array);
    }
    for (size_t i = 0; i < out_.size(); ++i) {
      if (!out_[i].is_none()) CheckDevice(OutName(i), out_[i]);
    }
    ThrowIfError(current_.Enter(device_));
    for (const NamedArray& input : inputs) {
      if (input.array.is_none()) continue;
      const auto import =
          input.is_mask ? &DeviceTensor::ImportMask : &DeviceTensor::Import;
      inputs_.emplace_back(input.name, import(input.name, input.array, stream_));
    }
  }

  // An input that is not None.
  const DeviceTensor& Get(const std::string& name) const { return *Find(name); }
  std::optional<DataType> TypeOf(const std::string& name) const {
    const DeviceTensor* tensor = Find(name);
    return tensor == nullptr ? std::nullopt : std::optional(tensor->type());
  }

  // The memory of an input, null for None.
  const void* Input(const std::string& name, const Shape& shape, DataType type) const {
    const DeviceTensor* tensor = Find(name);
    if (tensor == nullptr) return nullptr;
    CheckArray(name, tensor->shape(), tensor->type(), shape, type);
    return tensor->data();
  }

  // That of the mask.
  const void* Mask(const Shape& shape) const {
    const DeviceTensor* tensor = Find("mask");
    if (tensor == nullptr) return nullptr;
    CheckShape("mask", tensor->shape(), shape);
    return tensor->data();
  }

  // The memory of the next output, null if there is none: given, or new.
  void* Output(bool exists, const Shape& shape, DataType type) {
    const size_t i = results_.size();
    const py::object& given = out_[i];
    if (!exists) {
      if (!given.is_none()) {
        throw py::value_error(OutName(i) + " must be None: there is no such output");
      }
      results_.append(py::none());
      return nullptr;
    }
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

  // Enqueues the kernels. Returns the outputs, given or made.
  template <class Buffers>
  py::tuple Run(const NormProblem& problem, const Buffers& buffers) {
    Status status;
    {
      const py::gil_scoped_release release;
      status = Enqueue(problem, buffers, stream_);
    }
    ThrowIfError(status);
    return py::tuple(results_);
  }

 private:
  void SetOut(const py::sequence& out) {
    if (out.size() != names_.size()) {
      std::string names;
      for (const char* name : names_) {
        names += (names.empty() ? "" : ", ") + std::string(name);
      }
      throw py::value_error("out must be (" + names + "), got " +
                            std::to_string(out.size()) + " values");
    }
    for (size_t i = 0; i < names_.size(); ++i) out_[i] = out[i];
  }

  std::string OutName(size_t i) const {
    return "out[" + std::to_string(i) + "] (" + names_[i] + ")";
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

  const DeviceTensor* Find(const std::string& name) const {
    for (const auto& [key, tensor] : inputs_) {
      if (key == name) return &tensor;
    }
    return nullptr;
  }

  const cuda::Stream stream_;
  std::vector<py::object> out_;
  const std::vector<const char*> names_;
  int device_ = -1;
  std::string first_;
  ScopedDevice current_;
  std::vector<std::pair<std::string, DeviceTensor>> inputs_;
  std::vector<DeviceTensor> outputs_;
  py::list results_;
};

Operands OperandsOf(const Tensors& tensors, const char* beta, bool has_residual,
                    bool has_mask) {
  const DeviceTensor& x = tensors.Get("x");
  return {x.shape(),    x.type(), tensors.TypeOf("gamma"), tensors.TypeOf(beta),
          has_residual, has_mask};
}

py::tuple Forward(const Spec& spec, const Target& target, const py::object& x,
                  const py::object& gamma, const py::object& beta,
                  const py::object& residual, const py::object& mask) {
  Tensors tensors(target,
                  {{"x", x, false},
                   {"gamma", gamma},
                   {"beta", beta},
                   {"residual", residual},
                   {"mask", mask, true, true}},
                  {"y", "sum", "mean", "rstd"});
  const Resolved call =
      Resolve(spec, OperandsOf(tensors, "beta", !residual.is_none(), !mask.is_none()));
  const NormProblem& problem = call.problem;
  const Shape& shape = tensors.Get("x").shape();
  const DataType compute = ComputeType(problem.data);

  ForwardBuffers buffers;
  buffers.x = tensors.Input("x", shape, problem.data);
  buffers.residual = tensors.Input("residual", shape, problem.data);
  buffers.gamma = tensors.Input("gamma", call.params, problem.param);
  buffers.beta = tensors.Input("beta", call.params, problem.param);
  buffers.mask = tensors.Mask(call.mask);
  buffers.y = tensors.Output(true, shape, problem.data);
  buffers.sum = tensors.Output(problem.has_residual, shape, problem.data);
  buffers.mean = tensors.Output(problem.centred, call.statistics, compute);
  buffers.rstd = tensors.Output(true, call.statistics, compute);
  return tensors.Run(problem, buffers);
}

py::tuple Backward(const Spec& spec, const Target& target, bool params,
                   const py::object& dy, const py::object& x, const py::object& mean,
                   const py::object& rstd, const py::object& gamma,
                   const py::object& beta, const py::object& dsum,
                   const py::object& dmean, const py::object& drstd,
                   const py::object& mask) {
  Tensors tensors(target,
                  {{"x", x, false},
                   {"dy", dy, false},
                   {"mean", mean},
                   {"rstd", rstd, false},
                   {"gamma", gamma},
                   {"beta", beta},
                   {"dsum", dsum},
                   {"dmean", dmean},
                   {"drstd", drstd},
                   {"mask", mask, true, true}},
                  {"dx", "dgamma", "dbeta"});
  const Resolved call =
      Resolve(spec, OperandsOf(tensors, "beta", !dsum.is_none(), !mask.is_none()));
  const NormProblem& problem = call.problem;
  for (const char* name : {"mean", "dmean"}) {
    if (!problem.centred && tensors.TypeOf(name)) {
      throw py::value_error(std::string(name) + " must be None for rms_norm");
    }
  }
  if (problem.centred && mean.is_none()) throw py::value_error("mean must not be None");
  const Shape& shape = tensors.Get("x").shape();
  const DataType compute = ComputeType(problem.data);

  BackwardBuffers buffers;
  buffers.dy = tensors.Input("dy", shape, problem.data);
  buffers.x = tensors.Input("x", shape, problem.data);
  buffers.mean = tensors.Input("mean", call.statistics, compute);
  buffers.rstd = tensors.Input("rstd", call.statistics, compute);
  buffers.gamma = tensors.Input("gamma", call.params, problem.param);
  buffers.beta = tensors.Input("beta", call.params, problem.param);
  buffers.dsum = tensors.Input("dsum", shape, problem.data);
  buffers.dmean = tensors.Input("dmean", call.statistics, compute);
  buffers.drstd = tensors.Input("drstd", call.statistics, compute);
  buffers.mask = tensors.Mask(call.mask);
  buffers.dx = tensors.Output(true, shape, problem.data);
  buffers.dgamma =
      tensors.Output(params && problem.has_gamma, call.params, problem.param);
  buffers.dbeta =
      tensors.Output(params && problem.has_beta, call.params, problem.param);
  return tensors.Run(problem, buffers);
}

py::tuple SecondOrder(const Spec& spec, const Target& target, bool params,
                      const py::object& dy, const py::object& x, const py::object& mean,
                      const py::object& rstd, const py::object& ddx,
                      const py::object& gamma, const py::object& ddgamma,
                      const py::object& ddbeta, const py::object& drstd) {
  CheckSecondOrderArguments(spec.op, !gamma.is_none(), !ddgamma.is_none(),
                            !ddbeta.is_none());
  Tensors tensors(target,
                  {{"x", x, false},
                   {"dy", dy, false},
                   {"mean", mean},
                   {"rstd", rstd, false},
                   {"ddx", ddx, false},
                   {"gamma", gamma},
                   {"ddgamma", ddgamma},
                   {"ddbeta", ddbeta},
                   {"drstd", drstd}},
                  {"d_dy", "d_x", "d_gamma", "d_dmean", "d_drstd"});
  const Resolved call = Resolve(spec, OperandsOf(tensors, "ddbeta", false, false));
  const NormProblem& problem = call.problem;
  CheckMean(problem, !mean.is_none());
  const Shape& shape = tensors.Get("x").shape();
  const DataType compute = ComputeType(problem.data);

  SecondOrderBuffers buffers;
  buffers.dy = tensors.Input("dy", shape, problem.data);
  buffers.x = tensors.Input("x", shape, problem.data);
  buffers.mean = tensors.Input("mean", call.statistics, compute);
  buffers.rstd = tensors.Input("rstd", call.statistics, compute);
  buffers.gamma = tensors.Input("gamma", call.params, problem.param);
  buffers.drstd = tensors.Input("drstd", call.statistics, compute);
  buffers.ddx = tensors.Input("ddx", shape, problem.data);
  buffers.ddgamma = tensors.Input("ddgamma", call.params, problem.param);
  buffers.ddbeta = tensors.Input("ddbeta", call.params, problem.param);
  buffers.d_dy = tensors.Output(true, shape, problem.data);
  buffers.d_x = tensors.Output(true, shape, problem.data);
  buffers.d_gamma =
      tensors.Output(params && problem.has_gamma, call.params, problem.param);
  buffers.d_dmean = tensors.Output(problem.centred, call.statistics, compute);
  buffers.d_drstd = tensors.Output(true, call.statistics, compute);
  return tensors.Run(problem, buffers);
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

  cuda.def(
      "forward",
      [](const std::string& op, const py::object& x, const py::object& gamma,
         const py::object& beta, const py::object& residual,
         const std::vector<int64_t>& axes, int64_t groups, double epsilon,
         const std::string& activation, bool zero_centered, bool per_sample,
         bool per_position, const py::object& mask, std::optional<uintptr_t> stream,
         const std::optional<py::sequence>& out) {
        return Forward({op, axes, groups, epsilon, activation, zero_centered,
                        per_sample, per_position},
                       {stream, out}, x, gamma, beta, residual, mask);
      },
      py::arg("op"), py::arg("x"), py::arg("gamma") = py::none(),
      py::arg("beta") = py::none(), py::arg("residual") = py::none(), py::kw_only(),
      py::arg("axes"), py::arg("groups") = 0, py::arg("epsilon"),
      py::arg("activation") = "none", py::arg("zero_centered") = false,
      py::arg("per_sample") = false, py::arg("per_position") = false,
      py::arg("mask") = py::none(), py::arg("stream") = py::none(),
      py::arg("out") = py::none(),
      R"doc(Normalizes x on its CUDA device. Returns before the result is there.

Args:
    op, axes, groups, epsilon, activation, zero_centered, per_sample, per_position: as
        in _native.forward.
    x, gamma, beta, residual, mask: as there, but contiguous tensors of anything that
        speaks DLPack (PyTorch, CuPy, JAX), all on one device; mask of bool or uint8.
    stream: address of the cudaStream_t to run on, a stream of that device; None or 0
        is the legacy default stream. DLPack does not say which stream a framework is
        using: pass torch.cuda.current_stream().cuda_stream, or
        cupy.cuda.get_current_stream().ptr.
    out: (y, sum, mean, rstd) to write to, each None or a tensor like the inputs; None
        is a new Tensor, also for the whole. y may be x or the residual, and sum the
        other of the two.

Returns:
    (y, sum or None, mean or None, rstd)

Raises:
    TypeError, ValueError: an argument does not fit; the message names it.
    RuntimeError: a CUDA error, or a build without CUDA kernels.
    MemoryError: no device memory left for results or workspace.
)doc");

  cuda.def(
      "backward",
      [](const std::string& op, const py::object& dy, const py::object& x,
         const py::object& mean, const py::object& rstd, const py::object& gamma,
         const py::object& beta, const py::object& dsum, const py::object& dmean,
         const py::object& drstd, const std::vector<int64_t>& axes, int64_t groups,
         double epsilon, const std::string& activation, bool zero_centered,
         bool per_sample, bool per_position, const py::object& mask, bool params,
         std::optional<uintptr_t> stream, const std::optional<py::sequence>& out) {
        return Backward({op, axes, groups, epsilon, activation, zero_centered,
                         per_sample, per_position},
                        {stream, out}, params, dy, x, mean, rstd, gamma, beta, dsum,
                        dmean, drstd, mask);
      },
      py::arg("op"), py::arg("dy"), py::arg("x"), py::arg("mean"), py::arg("rstd"),
      py::arg("gamma") = py::none(), py::arg("beta") = py::none(),
      py::arg("dsum") = py::none(), py::arg("dmean") = py::none(),
      py::arg("drstd") = py::none(), py::kw_only(), py::arg("axes"),
      py::arg("groups") = 0, py::arg("epsilon"), py::arg("activation") = "none",
      py::arg("zero_centered") = false, py::arg("per_sample") = false,
      py::arg("per_position") = false, py::arg("mask") = py::none(),
      py::arg("params") = true, py::arg("stream") = py::none(),
      py::arg("out") = py::none(),
      R"doc(Gradients of forward, on the CUDA device of x.

Args:
    dy, x, mean, rstd, gamma, beta, dsum, dmean, drstd, mask: as in _native.backward, as
        tensors that forward takes.
    params: also the gradients of gamma and beta.
    stream: as in forward.
    out: (dx, dgamma, dbeta) to write to, as in forward. dx may be dy, x or dsum.

Returns:
    (dx, dgamma or None, dbeta or None); the gradient of the residual is dx.
)doc");

  cuda.def(
      "second_order",
      [](const std::string& op, const py::object& dy, const py::object& x,
         const py::object& mean, const py::object& rstd, const py::object& ddx,
         const py::object& gamma, const py::object& ddgamma, const py::object& ddbeta,
         const py::object& drstd, const std::vector<int64_t>& axes, int64_t groups,
         double epsilon, bool zero_centered, bool per_sample, bool params,
         std::optional<uintptr_t> stream, const std::optional<py::sequence>& out) {
        return SecondOrder(
            {op, axes, groups, epsilon, "none", zero_centered, per_sample},
            {stream, out}, params, dy, x, mean, rstd, ddx, gamma, ddgamma, ddbeta,
            drstd);
      },
      py::arg("op"), py::arg("dy"), py::arg("x"), py::arg("mean"), py::arg("rstd"),
      py::arg("ddx"), py::arg("gamma") = py::none(), py::arg("ddgamma") = py::none(),
      py::arg("ddbeta") = py::none(), py::arg("drstd") = py::none(), py::kw_only(),
      py::arg("axes"), py::arg("groups") = 0, py::arg("epsilon"),
      py::arg("zero_centered") = false, py::arg("per_sample") = false,
      py::arg("params") = true, py::arg("stream") = py::none(),
      py::arg("out") = py::none(),
      R"doc(Gradients of backward without activation, on the CUDA device of x.

Args:
    dy, x, mean, rstd, ddx, gamma, ddgamma, ddbeta, drstd: as in _native.second_order, as
        tensors that forward takes.
    params: also the gradient of gamma.
    stream: as in forward.
    out: (d_dy, d_x, d_gamma, d_dmean, d_drstd) to write to, as in forward. d_dy and d_x
        may be two of dy, x and ddx.

Returns:
    (d_dy, d_x, d_gamma or None, d_dmean or None, d_drstd), as _native.second_order.
)doc");
}

}  // namespace fusednorm
