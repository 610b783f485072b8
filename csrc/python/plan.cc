// The plans of the CUDA kernels, for devices at hand or not. Needs no CUDA.
#include "cuda/plan/plan.h"

#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "cuda/device/devices.h"
#include "cuda/plan/tuned.h"
#include "python/devices.h"
#include "python/module.h"
#include "python/spec.h"

namespace fusednorm {
namespace {

// A name of known_devices(), or all the fields.
using DeviceArgument = std::variant<std::string, py::dict>;

cuda::Device ToDevice(const DeviceArgument& argument) {
  if (const auto* fields = std::get_if<py::dict>(&argument)) {
    return DeviceFromDict(*fields);
  }
  cuda::Device device;
  ThrowIfError(cuda::KnownDevice(std::get<std::string>(argument), &device));
  return device;
}

py::dict KnownDevices() {
  py::dict devices;
  for (const std::string& name : cuda::KnownDeviceNames()) {
    devices[name.c_str()] = ToDict(ToDevice(name));
  }
  return devices;
}

py::dict ToDict(const cuda::Launch& launch) {
  py::dict fields;
  fields["kernel"] = launch.kernel;
  fields["blocks"] = launch.blocks;
  fields["threads"] = launch.threads;
  fields["cluster"] = launch.cluster;
  fields["shared_bytes"] = launch.shared_bytes;
  fields["bytes_in_flight"] = launch.bytes_in_flight;
  fields["threads_resident"] = launch.threads_resident;
  return fields;
}

py::dict ToDict(const cuda::TensorBytes& tensors) {
  py::dict fields;
  fields["data"] = tensors.data;
  fields["inputs"] = tensors.inputs;
  fields["outputs"] = tensors.outputs;
  fields["mask"] = tensors.mask;
  fields["statistics_read"] = tensors.statistics_read;
  fields["statistics_written"] = tensors.statistics_written;
  fields["params_read"] = tensors.params_read;
  fields["param_uses"] = tensors.param_uses;
  fields["params_written"] = tensors.params_written;
  return fields;
}

py::dict ToDict(const cuda::Plan& plan) {
  py::list launches;
  for (int i = 0; i < plan.num_launches; ++i) launches.append(ToDict(plan.launches[i]));
  py::dict geometry;
  std::visit(
      [&](const auto& each) {
        each.ForEach([&](const char* name, auto number) { geometry[name] = number; });
      },
      plan.geometry);
  py::dict fields;
  fields["scheme"] = cuda::Name(plan.geometry);
  fields["description"] = cuda::Describe(plan);
  fields["geometry"] = geometry;
  fields["launches"] = launches;
  fields["repeats"] = plan.repeats;
  fields["stream"] = plan.stream;
  fields["workspace_bytes"] = plan.workspace_bytes;
  fields["partial_bytes"] = plan.partial_bytes;
  fields["param_bytes"] = plan.param_bytes;
  fields["count_bytes"] = plan.count_bytes;
  fields["sets"] = plan.sets;
  fields["mask_pieces"] = plan.mask_pieces;
  fields["tensors"] = ToDict(plan.tensors);
  fields["least_bytes"] = plan.tensors.sum();
  return fields;
}

// A pass of a problem on a device.
struct Pass {
  cuda::PlanRequest request;
  bool second_order = false;
};

Pass ToPass(const Spec& spec, const Shape& x, const NormOptions& options,
            const DeviceArgument& device, const std::string& direction, bool aligned,
            bool params) {
  const NormProblem problem = Resolve(spec, x, options).problem;
  Pass pass;
  pass.request = {problem, ToDevice(device), direction == "backward", aligned, params};
  if (direction == "backward") {
    pass.request.params = params && (problem.has_gamma || problem.has_beta);
  } else if (direction == "second_order") {
    ThrowIfError(CheckSecondOrder(problem));
    pass.second_order = true;
    pass.request.params = params && problem.has_gamma;
  } else if (direction != "forward") {
    throw py::value_error("direction must be forward, backward or second_order, got " +
                          direction);
  }
  return pass;
}

// All plans of a pass, best first.
std::vector<cuda::Plan> Candidates(const Pass& pass) {
  const auto& [problem, device, backward, aligned, params] = pass.request;
  if (!pass.second_order) return cuda::Candidates(pass.request);
  return {cuda::PlanSecondOrder(problem, device, aligned, params)};
}

// The plan that runs.
cuda::Plan Chosen(const Pass& pass) {
  const auto& [problem, device, backward, aligned, params] = pass.request;
  if (pass.second_order) return Candidates(pass).front();
  return backward ? cuda::ChooseBackward(problem, device, aligned, params)
                  : cuda::ChooseForward(problem, device, aligned);
}

py::object Tuned(const Pass& pass) {
  if (pass.second_order) return py::none();
  const std::optional<cuda::TunedEntry> entry = cuda::FindTuned(pass.request);
  if (!entry) return py::none();
  py::dict fields;
  fields["plan"] = entry->plan;
  fields["stale"] = entry->stale;
  fields["seconds"] = 1e-9 * static_cast<double>(entry->nanoseconds);
  fields["rule_seconds"] = 1e-9 * static_cast<double>(entry->rule_nanoseconds);
  fields["measured"] = entry->measured;
  return fields;
}

std::string TunedKey(const Pass& pass) {
  if (pass.second_order) {
    throw py::value_error("direction must be forward or backward, got second_order");
  }
  return cuda::KeyOf(pass.request);
}

py::dict TunedTable() {
  const cuda::TunedTable table = cuda::TunedTableInUse();
  py::dict fields;
  fields["path"] = table.path.empty() ? py::none() : py::object(py::str(table.path));
  fields["entries"] = table.entries;
  fields["error"] = table.error.empty() ? py::none() : py::object(py::str(table.error));
  return fields;
}

void DefineTuned(py::module_& m) {
  m.def("tuned_table", &TunedTable,
        "The table of tuned plans in use, as a dict: path (None: switched off), "
        "entries, and error, which says why a file is not used.");
  m.def(
      "set_tuned_table",
      [](const std::string& path, const std::string& text) {
        ThrowIfError(cuda::SetTunedTable(path, text));
      },
      py::arg("path"), py::arg("text"),
      "Replaces the table of tuned plans in this module of this process. ValueError "
      "names path and line of what is wrong with the text; no plan is tuned then.");
  m.def(
      "reload_tuned_table", [] { ThrowIfError(cuda::ReloadTunedTable()); },
      "Reads the table of tuned plans from its file again. ValueError as in "
      "set_tuned_table.");
}

constexpr char kArguments[] = R"doc(
Args:
    op, axes, groups, epsilon, activation, zero_centered, per_sample, per_position: as
        in forward.
    shape, dtype: of x.
    has_gamma, has_beta, has_mask, residual: which of them there are.
    param_dtype: dtype of gamma and beta; "auto" is float32, for float64 x float64.
    device: a name from known_devices(), or a dict with the same fields as its values.
    direction: "forward", "backward" or, without activation, "second_order".
    aligned: all buffers start at multiples of 16 bytes.
    params: backward also computes the gradients of gamma and beta, second_order that
        of gamma.
)doc";

// A function of a problem, a device and a pass, of which `answer` makes its result.
template <class Answer>
void DefinePlanning(py::module_& m, const char* name, const std::string& doc,
                    Answer answer) {
  m.def(
      name,
      [answer](const std::string& op, const Shape& shape, const std::string& dtype,
               const std::vector<int64_t>& axes, int64_t groups, double epsilon,
               const std::string& activation, bool zero_centered, bool per_sample,
               bool per_position, bool has_gamma, bool has_beta, bool has_mask,
               bool residual, const std::string& param_dtype,
               const DeviceArgument& device, const std::string& direction, bool aligned,
               bool params) {
        NormOptions options;
        options.data = DataTypeFromName("x", dtype);
        options.param = param_dtype == "auto"
                            ? ComputeType(options.data)
                            : DataTypeFromName("param_dtype", param_dtype);
        options.has_gamma = has_gamma;
        options.has_beta = has_beta;
        options.has_mask = has_mask;
        options.has_residual = residual;
        return answer(ToPass({op, axes, groups, epsilon, activation, zero_centered,
                              per_sample, per_position},
                             shape, options, device, direction, aligned, params));
      },
      py::arg("op"), py::arg("shape"), py::arg("dtype"), py::kw_only(), py::arg("axes"),
      py::arg("groups") = 0, py::arg("epsilon") = 1e-3, py::arg("activation") = "none",
      py::arg("zero_centered") = false, py::arg("per_sample") = false,
      py::arg("per_position") = false, py::arg("has_gamma") = false,
      py::arg("has_beta") = false, py::arg("has_mask") = false,
      py::arg("residual") = false, py::arg("param_dtype") = "auto", py::arg("device"),
      py::arg("direction") = "forward", py::arg("aligned") = true,
      py::arg("params") = true, doc.c_str());
}

}  // namespace

void DefinePlan(py::module_& m) {
  DefinePlanning(m, "plan",
                 std::string("How the CUDA kernels run a problem.\n") + kArguments +
                     R"doc(
Returns:
    A dict (cuda/plan/plan.h): the scheme and its geometry, the launches, bytes of
    workspace and of the tensors, and a description that no other candidate has. It is
    the plan that the table of tuned plans names, else the first of candidates().
)doc",
                 [](const Pass& pass) { return ToDict(Chosen(pass)); });
  DefinePlanning(
      m, "candidates",
      std::string("All ways in which the CUDA kernels can run a problem.\n") +
          kArguments + R"doc(
Returns:
    A list of dicts as plan() returns them, best first.
)doc",
      [](const Pass& pass) {
        py::list all;
        for (const cuda::Plan& plan : Candidates(pass)) all.append(ToDict(plan));
        return all;
      });
  DefinePlanning(m, "tuned",
                 std::string("What the table of tuned plans says of a problem.\n") +
                     kArguments + R"doc(
Returns:
    None, or a dict: the description of the plan, whether it is stale, that is no
    candidate any more and not used, seconds and rule_seconds, which it and the first
    candidate took, and with what that was measured.
)doc",
                 &Tuned);
  DefinePlanning(m, "tuned_key",
                 std::string("How a line of the table of tuned plans begins.\n") +
                     kArguments + R"doc(
Returns:
    The fields of a problem, up to that of its plan (docs/tuning.md).
)doc",
                 &TunedKey);
  DefineTuned(m);

  m.def("known_devices", &KnownDevices,
        "Properties of well-known GPUs, at hand or not, by name: what plan knows of "
        "them.");
}

}  // namespace fusednorm
