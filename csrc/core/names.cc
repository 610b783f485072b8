// The names of enumerators, as attributes and messages spell them.
#include "core/activation.h"
#include "core/data_type.h"

namespace fusednorm {
namespace {

struct NamedActivation {
  Activation activation;
  const char* name;
};

constexpr NamedActivation kActivations[] = {
    {Activation::kNone, "none"},
    {Activation::kRelu, "relu"},
    {Activation::kLeakyRelu, "leaky_relu"},
    {Activation::kSilu, "silu"},
    {Activation::kGelu, "gelu"},
    {Activation::kGeluTanh, "gelu_tanh"},
    {Activation::kTanh, "tanh"},
    {Activation::kSigmoid, "sigmoid"},
};

}  // namespace

const char* Name(Activation activation) {
  for (const NamedActivation& entry : kActivations) {
    if (entry.activation == activation) return entry.name;
  }
  return "unknown";
}

bool ActivationFromName(const std::string& name, Activation* activation) {
  for (const NamedActivation& entry : kActivations) {
    if (name == entry.name) {
      *activation = entry.activation;
      return true;
    }
  }
  return false;
}

std::string ActivationNames() {
  std::string names;
  for (const NamedActivation& entry : kActivations) {
    if (!names.empty()) names += ", ";
    names += entry.name;
  }
  return names;
}

const char* Name(DataType type) {
  switch (type) {
    case DataType::kFloat:
      return "float32";
    case DataType::kHalf:
      return "float16";
    case DataType::kBfloat16:
      return "bfloat16";
    case DataType::kDouble:
      return "float64";
  }
  return "unknown";
}

bool DataTypeFromName(const std::string& name, DataType* type) {
  for (const DataType each :
       {DataType::kFloat, DataType::kHalf, DataType::kBfloat16, DataType::kDouble}) {
    if (name == Name(each)) {
      *type = each;
      return true;
    }
  }
  return false;
}

}  // namespace fusednorm
