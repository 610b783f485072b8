// forward, backward and second_order on NumPy arrays.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <optional>
#include <string>
#include <vector>

#include "core/problem.h"
#include "cpu/norm.h"
#include "python/arrays.h"
#include "python/module.h"
#include "python/spec.h"
#include "python/threads.h"

namespace fusednorm {
namespace {

using OptionalArray = std::optional<py::array>;

// What a call says of the processor.
struct Processor {
  int num_threads;
  cpu::Isa isa;
};

Processor MakeProcessor(int num_threads, const std::string& isa) {
  if (num_threads < 1) {
    throw py::value_error("num_threads must be positive, got " +
                          std::to_string(num_threads));
  }
  Processor processor{num_threads, cpu::DefaultIsa()};
  if (isa != "auto") ThrowIfError(cpu::IsaFromName(isa, &processor.isa));
  return processor;
}

Resolved Resolve(const Spec& spec, const py::array& x, const OptionalArray& gamma,
                 const OptionalArray& beta, bool has_residual, bool has_mask = false) {
  Operands operands{ShapeOf(x),   DataTypeOf("x", x), std::nullopt,
                    std::nullopt, has_residual,       has_mask};
  if (gamma) operands.gamma = DataTypeOf("gamma", *gamma);
  if (beta) operands.beta = DataTypeOf("beta", *beta);
  return Resolve(spec, operands);
}

// Keeps the dense arrays of a call alive while the kernel reads them.
class Inputs {
 public:
  const void* Add(const char* name, const OptionalArray& array, const Shape& shape,
                  DataType type) {
    if (!array) return nullptr;
    arrays_.push_back(Dense(name, *array, shape, type));
    return arrays_.back().data();
  }
  const void* AddMask(const OptionalArray& mask, const Shape& shape) {
    if (!mask) return nullptr;
    arrays_.push_back(DenseMask("mask", *mask, shape));
    return arrays_.back().data();
  }

 private:
  std::vector<py::array> arrays_;
};

py::array NewLike(const py::array& x) { return NewArray(x.dtype(), ShapeOf(x)); }

py::array NewStatistics(const Resolved& call) {
  const bool is_double = ComputeType(call.problem.data) == DataType::kDouble;
  return NewArray(is_double ? py::dtype::of<double>() : py::dtype::of<float>(),
                  call.statistics);
}

py::tuple Forward(const Spec& spec, const Processor& processor, const py::array& x,
                  const OptionalArray& gamma, const OptionalArray& beta,
                  const OptionalArray& residual, const OptionalArray& mask) {
  const Resolved call =
      Resolve(spec, x, gamma, beta, residual.has_value(), mask.has_value());
  const NormProblem& problem = call.problem;
  const py::array y = NewLike(x);
  const OptionalArray sum = residual ? OptionalArray(NewLike(x)) : std::nullopt;
  const OptionalArray mean =
      problem.centred ? OptionalArray(NewStatistics(call)) : std::nullopt;
  const py::array rstd = NewStatistics(call);

  Inputs inputs;
  ForwardBuffers buffers;
  buffers.x = inputs.Add("x", x, ShapeOf(x), problem.data);
  buffers.residual = inputs.Add("residual", residual, ShapeOf(x), problem.data);
  buffers.gamma = inputs.Add("gamma", gamma, call.params, problem.param);
  buffers.beta = inputs.Add("beta", beta, call.params, problem.param);
  buffers.mask = inputs.AddMask(mask, call.mask);
  buffers.y = const_cast<void*>(y.data());
  buffers.sum = sum ? const_cast<void*>(sum->data()) : nullptr;
  buffers.mean = mean ? const_cast<void*>(mean->data()) : nullptr;
  buffers.rstd = const_cast<void*>(rstd.data());
  Status status;
  {
    const py::gil_scoped_release release;
    status = cpu::Forward(problem, buffers, ThreadsParallelFor(processor.num_threads),
                          processor.isa);
  }
  ThrowIfError(status);
  return py::make_tuple(y, sum, mean, rstd);
}

py::tuple Backward(const Spec& spec, const Processor& processor, const py::array& dy,
                   const py::array& x, const OptionalArray& mean, const py::array& rstd,
                   const OptionalArray& gamma, const OptionalArray& beta,
                   const OptionalArray& dsum, const OptionalArray& dmean,
                   const OptionalArray& drstd, const OptionalArray& mask) {
  const Resolved call =
      Resolve(spec, x, gamma, beta, dsum.has_value(), mask.has_value());
  const NormProblem& problem = call.problem;
  CheckMean(problem, mean.has_value());
  const py::array dx = NewLike(x);
  const auto new_param = [&](const OptionalArray& param) {
    return param ? OptionalArray(NewLike(*param)) : std::nullopt;
  };
  const OptionalArray dgamma = new_param(gamma);
  const OptionalArray dbeta = new_param(beta);

  const DataType compute = ComputeType(problem.data);
  Inputs inputs;
  BackwardBuffers buffers;
  buffers.dy = inputs.Add("dy", dy, ShapeOf(x), problem.data);
  buffers.x = inputs.Add("x", x, ShapeOf(x), problem.data);
  buffers.mean = inputs.Add("mean", mean, call.statistics, compute);
  buffers.rstd = inputs.Add("rstd", rstd, call.statistics, compute);
  buffers.gamma = inputs.Add("gamma", gamma, call.params, problem.param);
  buffers.beta = inputs.Add("beta", beta, call.params, problem.param);
  buffers.dsum = inputs.Add("dsum", dsum, ShapeOf(x), problem.data);
  buffers.dmean = inputs.Add("dmean", dmean, call.statistics, compute);
  buffers.drstd = inputs.Add("drstd", drstd, call.statistics, compute);
  buffers.mask = inputs.AddMask(mask, call.mask);
  buffers.dx = const_cast<void*>(dx.data());
  buffers.dgamma = dgamma ? const_cast<void*>(dgamma->data()) : nullptr;
  buffers.dbeta = dbeta ? const_cast<void*>(dbeta->data()) : nullptr;
  Status status;
  {
    const py::gil_scoped_release release;
    status = cpu::Backward(problem, buffers, ThreadsParallelFor(processor.num_threads),
                           processor.isa);
  }
  ThrowIfError(status);
  return py::make_tuple(dx, dgamma, dbeta);
}

py::tuple SecondOrder(const Spec& spec, const Processor& processor, const py::array& dy,
                      const py::array& x, const OptionalArray& mean,
                      const py::array& rstd, const py::array& ddx,
                      const OptionalArray& gamma, const OptionalArray& ddgamma,
                      const OptionalArray& ddbeta, const OptionalArray& drstd) {
  CheckSecondOrderArguments(spec.op, gamma.has_value(), ddgamma.has_value(),
                            ddbeta.has_value());
  const Resolved call = Resolve(spec, x, gamma, ddbeta, false);
  const NormProblem& problem = call.problem;
  CheckMean(problem, mean.has_value());
  const py::array d_dy = NewLike(x), d_x = NewLike(x);
  const OptionalArray d_gamma = gamma ? OptionalArray(NewLike(*gamma)) : std::nullopt;
  const OptionalArray d_dmean =
      problem.centred ? OptionalArray(NewStatistics(call)) : std::nullopt;
  const py::array d_drstd = NewStatistics(call);

  const DataType compute = ComputeType(problem.data);
  Inputs inputs;
  SecondOrderBuffers buffers;
  buffers.dy = inputs.Add("dy", dy, ShapeOf(x), problem.data);
  buffers.x = inputs.Add("x", x, ShapeOf(x), problem.data);
  buffers.mean = inputs.Add("mean", mean, call.statistics, compute);
  buffers.rstd = inputs.Add("rstd", rstd, call.statistics, compute);
  buffers.gamma = inputs.Add("gamma", gamma, call.params, problem.param);
  buffers.drstd = inputs.Add("drstd", drstd, call.statistics, compute);
  buffers.ddx = inputs.Add("ddx", ddx, ShapeOf(x), problem.data);
  buffers.ddgamma = inputs.Add("ddgamma", ddgamma, call.params, problem.param);
  buffers.ddbeta = inputs.Add("ddbeta", ddbeta, call.params, problem.param);
  buffers.d_dy = const_cast<void*>(d_dy.data());
  buffers.d_x = const_cast<void*>(d_x.data());
  buffers.d_gamma = d_gamma ? const_cast<void*>(d_gamma->data()) : nullptr;
  buffers.d_dmean = d_dmean ? const_cast<void*>(d_dmean->data()) : nullptr;
  buffers.d_drstd = const_cast<void*>(d_drstd.data());
  Status status;
  {
    const py::gil_scoped_release release;
    status = cpu::SecondOrder(problem, buffers,
                              ThreadsParallelFor(processor.num_threads), processor.isa);
  }
  ThrowIfError(status);
  return py::make_tuple(d_dy, d_x, d_gamma, d_dmean, d_drstd);
}

std::vector<std::string> UsableIsaNames() {
  std::vector<std::string> names;
  for (const cpu::Isa isa : cpu::UsableIsas()) names.push_back(cpu::Name(isa));
  return names;
}

}  // namespace

void DefineCpu(py::module_& m) {
  m.def(
      "forward",
      [](const std::string& op, const py::array& x, const OptionalArray& gamma,
         const OptionalArray& beta, const OptionalArray& residual,
         const std::vector<int64_t>& axes, int64_t groups, double epsilon,
         const std::string& activation, bool zero_centered, bool per_sample,
         bool per_position, const OptionalArray& mask, int num_threads,
         const std::string& isa) {
        return Forward({op, axes, groups, epsilon, activation, zero_centered,
                        per_sample, per_position},
                       MakeProcessor(num_threads, isa), x, gamma, beta, residual, mask);
      },
      py::arg("op"), py::arg("x"), py::arg("gamma") = py::none(),
      py::arg("beta") = py::none(), py::arg("residual") = py::none(), py::kw_only(),
      py::arg("axes"), py::arg("groups") = 0, py::arg("epsilon"),
      py::arg("activation") = "none", py::arg("zero_centered") = false,
      py::arg("per_sample") = false, py::arg("per_position") = false,
      py::arg("mask") = py::none(), py::arg("num_threads") = 1, py::arg("isa") = "auto",
      R"doc(Normalizes x.

Args:
    op: "group_norm" (axes is [channel axis], groups is used), "layer_norm" or "rms_norm"
        (axes are consecutive and increasing).
    x: float16, bfloat16, float32 or float64 array.
    gamma, beta: parameters of float32 (float64 for float64 x) or x's dtype, or None.
    residual: array like x that is added first, or None.
    zero_centered: multiply by 1 + gamma.
    per_sample: gamma and beta have axis 0 of x before their other axes.
    per_position: gamma and beta have the shape of x.
    mask: bool array of the shape of x without the channel axis, or None. The statistics
        are of the positions where it is true; all are normalized. "group_norm" only.
    num_threads: threads to use; the result does not depend on it.
    isa: "auto" or one of isas().

Returns:
    (y, sum or None, mean or None, rstd)

Raises:
    ValueError: an argument does not fit; the message names it.
)doc");

  m.def(
      "backward",
      [](const std::string& op, const py::array& dy, const py::array& x,
         const OptionalArray& mean, const py::array& rstd, const OptionalArray& gamma,
         const OptionalArray& beta, const OptionalArray& dsum,
         const OptionalArray& dmean, const OptionalArray& drstd,
         const std::vector<int64_t>& axes, int64_t groups, double epsilon,
         const std::string& activation, bool zero_centered, bool per_sample,
         bool per_position, const OptionalArray& mask, int num_threads,
         const std::string& isa) {
        return Backward({op, axes, groups, epsilon, activation, zero_centered,
                         per_sample, per_position},
                        MakeProcessor(num_threads, isa), dy, x, mean, rstd, gamma, beta,
                        dsum, dmean, drstd, mask);
      },
      py::arg("op"), py::arg("dy"), py::arg("x"), py::arg("mean"), py::arg("rstd"),
      py::arg("gamma") = py::none(), py::arg("beta") = py::none(),
      py::arg("dsum") = py::none(), py::arg("dmean") = py::none(),
      py::arg("drstd") = py::none(), py::kw_only(), py::arg("axes"),
      py::arg("groups") = 0, py::arg("epsilon"), py::arg("activation") = "none",
      py::arg("zero_centered") = false, py::arg("per_sample") = false,
      py::arg("per_position") = false, py::arg("mask") = py::none(),
      py::arg("num_threads") = 1, py::arg("isa") = "auto",
      R"doc(Gradients of forward.

Args:
    dy: gradient of y.
    x: what was normalized: x, or the sum where there was a residual.
    mean, rstd: as forward returned them; mean is None for "rms_norm".
    dsum, dmean, drstd: gradients of the other outputs, or None.
    mask: as forward was given it.

Returns:
    (dx, dgamma or None, dbeta or None); the gradient of the residual is dx.
)doc");

  m.def(
      "second_order",
      [](const std::string& op, const py::array& dy, const py::array& x,
         const OptionalArray& mean, const py::array& rstd, const py::array& ddx,
         const OptionalArray& gamma, const OptionalArray& ddgamma,
         const OptionalArray& ddbeta, const OptionalArray& drstd,
         const std::vector<int64_t>& axes, int64_t groups, double epsilon,
         bool zero_centered, bool per_sample, int num_threads, const std::string& isa) {
        return SecondOrder(
            {op, axes, groups, epsilon, "none", zero_centered, per_sample},
            MakeProcessor(num_threads, isa), dy, x, mean, rstd, ddx, gamma, ddgamma,
            ddbeta, drstd);
      },
      py::arg("op"), py::arg("dy"), py::arg("x"), py::arg("mean"), py::arg("rstd"),
      py::arg("ddx"), py::arg("gamma") = py::none(), py::arg("ddgamma") = py::none(),
      py::arg("ddbeta") = py::none(), py::arg("drstd") = py::none(), py::kw_only(),
      py::arg("axes"), py::arg("groups") = 0, py::arg("epsilon"),
      py::arg("zero_centered") = false, py::arg("per_sample") = false,
      py::arg("num_threads") = 1, py::arg("isa") = "auto",
      R"doc(Gradients of backward without activation.

Args:
    dy, x, mean, rstd, gamma, drstd: as backward was given them.
    ddx, ddgamma, ddbeta: gradients of what it returned; the last two may be None.

Returns:
    (d_dy, d_x, d_gamma or None, d_dmean or None, d_drstd). d_x is the total derivative,
    through mean and rstd as well; the gradient of dsum is ddx.
)doc");

  m.def(
      "isa", [] { return cpu::Name(cpu::DefaultIsa()); },
      "The instruction set in use; FUSEDNORM_ISA in the environment chooses another.");
  m.def("isas", &UsableIsaNames, "The instruction sets usable here, weakest first.");
}

}  // namespace fusednorm
