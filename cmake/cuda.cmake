# fusednorm_cuda: everything compiled by nvcc. Sets FUSEDNORM_WITH_CUDA, and
# FUSEDNORM_CUDA_ARCHITECTURES to what is built.

set(FUSEDNORM_WITH_CUDA OFF)
if(FUSEDNORM_CUDA STREQUAL "off")
  return()
endif()

# Installers put the toolkit there without always putting it on the PATH.
find_program(CMAKE_CUDA_COMPILER nvcc
  HINTS ENV CUDA_HOME ENV CUDA_PATH PATHS /usr/local/cuda PATH_SUFFIXES bin)
if(NOT CMAKE_CUDA_COMPILER)
  if(FUSEDNORM_CUDA STREQUAL "on")
    message(FATAL_ERROR
      "FUSEDNORM_CUDA=on, but no nvcc found. Install the CUDA toolkit "
      "(https://developer.nvidia.com/cuda-downloads), and set CUDA_HOME to its folder "
      "or put its bin folder on the PATH. FUSEDNORM_CUDA=auto builds without it.")
  endif()
  message(STATUS "fusednorm: no nvcc found, building for the CPU only")
  return()
endif()

execute_process(COMMAND "${CMAKE_CUDA_COMPILER}" --list-gpu-arch
  OUTPUT_VARIABLE known COMMAND_ERROR_IS_FATAL ANY)
string(REGEX MATCHALL "[0-9]+" known "${known}")
if(FUSEDNORM_CUDA_ARCHITECTURES)
  string(REGEX REPLACE "[, ]+" ";" architectures "${FUSEDNORM_CUDA_ARCHITECTURES}")
  set(unknown ${architectures})
  list(REMOVE_ITEM unknown ${known})
  if(unknown)
    list(JOIN known ", " known)
    message(FATAL_ERROR
      "FUSEDNORM_CUDA_ARCHITECTURES must be a list of architectures that "
      "${CMAKE_CUDA_COMPILER} knows: ${known}. Received: "
      "${FUSEDNORM_CUDA_ARCHITECTURES}")
  endif()
else()
  foreach(architecture IN ITEMS 75 80 86 89 90 100 120)
    if(architecture IN_LIST known)
      list(APPEND architectures ${architecture})
    endif()
  endforeach()
endif()
list(SORT architectures COMPARE NATURAL)
set(FUSEDNORM_CUDA_ARCHITECTURES ${architectures})

# Machine code for each, and PTX of the newest for the GPUs still to come.
list(POP_BACK architectures newest)
list(TRANSFORM architectures APPEND "-real")
set(CMAKE_CUDA_ARCHITECTURES ${architectures} ${newest})

enable_language(CUDA)
find_package(CUDAToolkit REQUIRED)
set(FUSEDNORM_WITH_CUDA ON)
list(JOIN FUSEDNORM_CUDA_ARCHITECTURES ", " listed)
message(STATUS
  "fusednorm: building for CUDA ${CUDAToolkit_VERSION}, architectures ${listed}")

add_library(fusednorm_cuda STATIC cuda/device_info.cu)
set_target_properties(fusednorm_cuda PROPERTIES
  CUDA_STANDARD 17 CUDA_STANDARD_REQUIRED ON CUDA_VISIBILITY_PRESET hidden)
target_include_directories(fusednorm_cuda PRIVATE
  "${PROJECT_SOURCE_DIR}/csrc" "${PROJECT_SOURCE_DIR}")
target_compile_options(fusednorm_cuda PRIVATE
  --threads=4 -Xcompiler=-Wall,-Wextra
  $<$<BOOL:${FUSEDNORM_WERROR}>:-Werror=all-warnings>)
target_link_libraries(fusednorm_cuda PUBLIC CUDA::cudart_static)
