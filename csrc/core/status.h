// The result of everything that can fail. It is empty, or has a message that names the
// argument, what was expected and what came. Each boundary translates it once: to
// InvalidArgument in TensorFlow and ValueError in Python, or to Internal and
// RuntimeError where the CUDA runtime or the device failed.
#pragma once

#include <string>
#include <utility>

namespace fusednorm {

class Status {
 public:
  Status() = default;

  static Status InvalidArgument(std::string message) {
    return Status(Kind::kInvalidArgument, std::move(message));
  }
  static Status OutOfMemory(std::string message) {
    return Status(Kind::kOutOfMemory, std::move(message));
  }
  static Status Internal(std::string message) {
    return Status(Kind::kInternal, std::move(message));
  }

  bool ok() const { return kind_ == Kind::kOk; }
  bool out_of_memory() const { return kind_ == Kind::kOutOfMemory; }
  bool internal() const { return kind_ == Kind::kInternal; }
  const std::string& message() const { return message_; }

 private:
  enum class Kind { kOk, kInvalidArgument, kOutOfMemory, kInternal };
  Status(Kind kind, std::string message) : kind_(kind), message_(std::move(message)) {}

  Kind kind_ = Kind::kOk;
  std::string message_;
};

}  // namespace fusednorm

#define FUSEDNORM_RETURN_IF_ERROR(expression)           \
  do {                                                  \
    ::fusednorm::Status status_or_error = (expression); \
    if (!status_or_error.ok()) return status_or_error;  \
  } while (false)
