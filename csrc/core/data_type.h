// Element types of tensors and parameters.
#pragma once

#include <cstddef>
#include <string>

#include "core/portability.h"

namespace fusednorm {

enum class DataType { kFloat, kHalf, kBfloat16, kDouble };

FUSEDNORM_INLINE std::size_t SizeOf(DataType type) {
  return type == DataType::kDouble ? 8 : type == DataType::kFloat ? 4 : 2;
}

// Statistics and all arithmetic are in float, or in double for double data.
FUSEDNORM_INLINE DataType ComputeType(DataType data) {
  return data == DataType::kDouble ? DataType::kDouble : DataType::kFloat;
}

const char* Name(DataType type);
bool DataTypeFromName(const std::string& name, DataType* type);

}  // namespace fusednorm
