# fusednorm_plan: the plans, without CUDA. libfusednorm_cuda.so: everything compiled by
# nvcc, once for the module and the ops. Sets FUSEDNORM_WITH_CUDA, and
# FUSEDNORM_CUDA_ARCHITECTURES to what is built.

file(GLOB sources CONFIGURE_DEPENDS cuda/*/*.cc)
add_library(fusednorm_plan STATIC ${sources})
fusednorm_compile_options(fusednorm_plan)
target_link_libraries(fusednorm_plan PUBLIC fusednorm_core)

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
  # 8.6 and 8.9 run the code for 8.0.
  foreach(architecture IN ITEMS 75 80 90 100 120)
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

# What all of our .cu files are compiled with.
function(fusednorm_cuda_options target)
  set_target_properties(${target} PROPERTIES
    CUDA_STANDARD 17 CUDA_STANDARD_REQUIRED ON CUDA_VISIBILITY_PRESET hidden)
  target_include_directories(${target} PRIVATE
    "${PROJECT_SOURCE_DIR}/csrc" "${PROJECT_SOURCE_DIR}")
  target_compile_options(${target} PRIVATE
    -Xcompiler=-Wall,-Wextra,-Wno-unknown-pragmas
    $<$<BOOL:${FUSEDNORM_CUDA_LINEINFO}>:-lineinfo>
    $<$<BOOL:${FUSEDNORM_WERROR}>:-Werror=all-warnings>)
  # A third of the size. Older compilers do not know the switch.
  if(CMAKE_CUDA_COMPILER_VERSION VERSION_GREATER_EQUAL 12.8)
    target_compile_options(${target} PRIVATE --compress-mode=size)
  endif()
endfunction()

file(GLOB sources CONFIGURE_DEPENDS cuda/api/*.cu cuda/device/*.cu)
add_library(fusednorm_cuda SHARED ${sources})
fusednorm_cuda_options(fusednorm_cuda)
set_target_properties(fusednorm_cuda PROPERTIES LINKER_LANGUAGE CXX)
target_link_libraries(fusednorm_cuda PRIVATE
  fusednorm_plan fusednorm_core CUDA::cudart_static)

# The kernels: cuda/instance.cu for each line of the list and each of its data types. Of
# a compilation, CUDA's headers take seconds for each architecture, and the smallest
# kernels no more than that. So two types share one, or all types of the smallest.
set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS cuda/instances.txt)
set(small_lines mask_BackwardArgs columns_ParamSums)
file(STRINGS cuda/instances.txt lines REGEX "^[^#]")
foreach(line IN LISTS lines)
  string(REPLACE " " ";" types "${line}")
  list(POP_FRONT types scheme args)
  foreach(type IN LISTS types)
    set(unit ${scheme}_${args})
    if(NOT unit IN_LIST small_lines)
      if(type MATCHES "^(Half|Bfloat16)$")
        string(APPEND unit _16bit)
      else()
        string(APPEND unit _wide)
      endif()
    endif()
    list(APPEND units ${unit})
    string(APPEND source_of_${unit}
      "#define FUSEDNORM_SCHEME ${scheme}\n"
      "#define FUSEDNORM_ARGS ${args}\n"
      "#define FUSEDNORM_DATA ${type}\n"
      "#include \"cuda/instance.cu\"\n"
      "#undef FUSEDNORM_SCHEME\n"
      "#undef FUSEDNORM_ARGS\n"
      "#undef FUSEDNORM_DATA\n")
  endforeach()
endforeach()
list(REMOVE_DUPLICATES units)
foreach(unit IN LISTS units)
  set(source "${CMAKE_CURRENT_BINARY_DIR}/instances/${unit}.cu")
  file(CONFIGURE OUTPUT "${source}" CONTENT "${source_of_${unit}}" @ONLY)
  set(instance fusednorm_cuda_${unit})
  add_library(${instance} OBJECT "${source}")
  fusednorm_cuda_options(${instance})
  target_sources(fusednorm_cuda PRIVATE $<TARGET_OBJECTS:${instance}>)
endforeach()
fusednorm_export_only(fusednorm_cuda "_ZN9fusednorm4cuda*")
install(TARGETS fusednorm_cuda LIBRARY DESTINATION fusednorm)
