// What the handlers of all devices do before they run a kernel: read the problem back
// and find the buffers. Of XLA only the header for libraries from outside, which does
// not depend on XLA's C++ interface.
#pragma once

#include <string>
#include <string_view>

#include "core/problem.h"
#include "core/signature.h"
#include "core/status.h"
#include "tensorflow/xla_problem.h"
#include "xla/ffi/api/ffi.h"

extern "C" const XLA_FFI_Api* XLA_FFI_GetApi();

namespace fusednorm {

namespace ffi = ::xla::ffi;

inline ffi::Error ToFfi(const Status& status) {
  if (status.ok()) return ffi::Error::Success();
  const ffi::ErrorCode code = status.out_of_memory()
                                  ? ffi::ErrorCode::kResourceExhausted
                              : status.internal() ? ffi::ErrorCode::kInternal
                                                  : ffi::ErrorCode::kInvalidArgument;
  return ffi::Error(code, status.message());
}

inline ffi::DataType ToFfi(DataType type) {
  switch (type) {
    case DataType::kFloat:
      return ffi::DataType::F32;
    case DataType::kHalf:
      return ffi::DataType::F16;
    case DataType::kBfloat16:
      return ffi::DataType::BF16;
    case DataType::kDouble:
      return ffi::DataType::F64;
  }
  return ffi::DataType::INVALID;
}

inline ffi::DataType FfiTypeOf(const NormProblem& problem, Part part) {
  return part == Part::kMask ? ffi::DataType::PRED : ToFfi(TypeOf(problem, part));
}

// Reads the fields of a problem one by one; false if one of them is missing or not what
// ToAttributes writes.
class FieldReader {
 public:
  explicit FieldReader(const ffi::Dictionary& attributes) : attributes_(attributes) {}

  template <class Field>
  void operator()(const char* name, Field& field) {
    if (status_.ok() && !Read(name, field)) {
      status_ = Status::Internal(std::string("custom call: bad attribute ") + name);
    }
  }

  const Status& status() const { return status_; }

 private:
  template <class Field>
  bool Read(const char* name, Field& field) const {
    const auto value = attributes_.get<Field>(name);
    if (value.has_value()) field = *value;
    return value.has_value();
  }
  bool Read(const char* name, Activation& field) const {
    const auto value = attributes_.get<std::string_view>(name);
    return value.has_value() && ActivationFromName(std::string(*value), &field);
  }
  bool Read(const char* name, DataType& field) const {
    const auto value = attributes_.get<std::string_view>(name);
    return value.has_value() && DataTypeFromName(std::string(*value), &field);
  }

  const ffi::Dictionary& attributes_;
  Status status_;
};

// Takes `buffer` for an operand if it is what the problem says.
template <class Buffers, class Pointer>
Status Take(const NormProblem& problem, const Operand<Buffers, Pointer>& operand,
            const ffi::AnyBuffer& buffer, Buffers* buffers) {
  if (buffer.element_type() != FfiTypeOf(problem, operand.part) ||
      static_cast<int64_t>(buffer.element_count()) != SizeOf(problem, operand.part)) {
    return Status::Internal(std::string("custom call: wrong type or size of ") +
                            operand.name);
  }
  buffers->*operand.buffer = buffer.untyped_data();
  return Status();
}

// Finds the problem and its buffers. The outputs may be followed by a workspace.
template <class Buffers>
Status Decode(const ffi::Dictionary& attributes, const ffi::RemainingArgs& inputs,
              const ffi::RemainingRets& outputs, NormProblem* problem, Buffers* buffers,
              size_t* num_outputs) {
  FieldReader reader(attributes);
  VisitFields(*problem, reader);
  FUSEDNORM_RETURN_IF_ERROR(reader.status());
  size_t index = 0;
  for (const In<Buffers>& operand : Signature<Buffers>::kInputs) {
    if (!Has(*problem, problem->centred, operand.with)) continue;
    const auto buffer = inputs.get<ffi::AnyBuffer>(index++);
    if (!buffer.has_value()) return Status::Internal(buffer.error().message());
    FUSEDNORM_RETURN_IF_ERROR(Take(*problem, operand, *buffer, buffers));
  }
  *num_outputs = 0;
  for (const Out<Buffers>& operand : Signature<Buffers>::kOutputs) {
    if (!Has(*problem, problem->centred, operand.with)) continue;
    auto buffer = outputs.get<ffi::AnyBuffer>((*num_outputs)++);
    if (!buffer.has_value()) return Status::Internal(buffer.error().message());
    FUSEDNORM_RETURN_IF_ERROR(Take(*problem, operand, **buffer, buffers));
  }
  return Status();
}

}  // namespace fusednorm
