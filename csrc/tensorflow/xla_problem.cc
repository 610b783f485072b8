#include "tensorflow/xla_problem.h"

#include <cinttypes>
#include <cstdint>
#include <cstdio>
#include <cstring>

namespace fusednorm {
namespace {

std::string ToText(int64_t value) { return std::to_string(value) + " : i64"; }
std::string ToText(bool value) { return value ? "true" : "false"; }
std::string ToText(DataType value) { return '"' + std::string(Name(value)) + '"'; }
std::string ToText(Activation value) { return '"' + std::string(Name(value)) + '"'; }

// Its bits: decimals would have to be rounded.
std::string ToText(double value) {
  uint64_t bits;
  std::memcpy(&bits, &value, sizeof(bits));
  char text[32];
  std::snprintf(text, sizeof(text), "0x%016" PRIX64 " : f64", bits);
  return text;
}

}  // namespace

std::string ToAttributes(const NormProblem& problem) {
  std::string text;
  VisitFields(problem, [&](const char* name, const auto& field) {
    text += (text.empty() ? "" : ", ") + (name + (" = " + ToText(field)));
  });
  return "{" + text + "}";
}

}  // namespace fusednorm
