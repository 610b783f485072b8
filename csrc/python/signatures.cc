// What the passes take and give, as data.
#include <pybind11/pybind11.h>

#include "core/signature.h"
#include "python/errors.h"
#include "python/module.h"

namespace fusednorm {
namespace {

const char* Name(Part part) {
  return part == Part::kData     ? "data"
         : part == Part::kParams ? "params"
         : part == Part::kMask   ? "mask"
                                 : "statistics";
}

template <class Buffers, class Pointer>
py::dict ToDict(const Operand<Buffers, Pointer>& operand) {
  py::list norms;
  for (const Norm& norm : kNorms) {
    if (Includes(operand.with.norms, norm)) norms.append(norm.name);
  }
  py::dict fields;
  fields["name"] = operand.name;
  fields["part"] = Name(operand.part);
  fields["length"] = operand.with.length;
  fields["came_later"] = operand.with.came_later;
  fields["norms"] = norms;
  return fields;
}

template <class Buffers>
py::dict ToDict() {
  py::dict ops;
  for (const Norm& norm : kNorms) ops[norm.name] = OpName<Buffers>(norm);
  py::list inputs, outputs;
  for (const auto& operand : Signature<Buffers>::kInputs)
    inputs.append(ToDict(operand));
  for (const auto& operand : Signature<Buffers>::kOutputs) {
    outputs.append(ToDict(operand));
  }
  py::dict fields;
  fields["ops"] = ops;
  fields["inputs"] = inputs;
  fields["outputs"] = outputs;
  return fields;
}

py::dict Signatures() {
  py::dict passes;
  passes[Signature<ForwardBuffers>::kName] = ToDict<ForwardBuffers>();
  passes[Signature<BackwardBuffers>::kName] = ToDict<BackwardBuffers>();
  passes[Signature<SecondOrderBuffers>::kName] = ToDict<SecondOrderBuffers>();
  return passes;
}

}  // namespace

void DefineSignatures(py::module_& m) {
  m.def("signatures", &Signatures, R"doc(What forward, backward and second_order are.

Returns:
    By their names dicts of `ops`, the TensorFlow op for each norm, and of `inputs` and
    `outputs`, lists in the order of the ops. An operand is a dict of its `name`; its
    `part`: "data", "params", "statistics" or "mask", which have each the same shape and
    type; `length`, the attribute with the number of its tensors where the op has a list
    of them, else None; whether it `came_later`, so that older callers leave it out; and
    `norms`, those that have it.
)doc");
}

}  // namespace fusednorm
