# fusednorm._native: the kernels for NumPy arrays and DLPack tensors.

find_package(pybind11 3.0 CONFIG QUIET)
if(NOT pybind11_FOUND)
  execute_process(COMMAND "${Python_EXECUTABLE}" -m pybind11 --cmakedir
    OUTPUT_VARIABLE pybind11_folder OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
  find_package(pybind11 3.0 CONFIG QUIET PATHS "${pybind11_folder}" NO_DEFAULT_PATH)
endif()
if(NOT pybind11_FOUND)
  message(FATAL_ERROR
    "No pybind11 >= 3.0 found. Install it: ${Python_EXECUTABLE} -m pip install pybind11")
endif()

file(GLOB sources CONFIGURE_DEPENDS csrc/python/*.cc)
# Without the optimization at link time that pybind11 asks for: it takes ten seconds, on
# one core, and the kernels are not part of it.
pybind11_add_module(_native MODULE NO_EXTRAS ${sources})
fusednorm_compile_options(_native)
# Read once instead of for each file, which was a third of the time to compile the module.
target_precompile_headers(_native PRIVATE
  <pybind11/pybind11.h> <pybind11/numpy.h> <pybind11/stl.h>)
set_source_files_properties(csrc/python/device_memory.cc csrc/python/threads.cc
  PROPERTIES SKIP_PRECOMPILE_HEADERS ON)  # they do not use it
fusednorm_export_only(_native PyInit__native)
target_link_libraries(_native PRIVATE fusednorm_core)
fusednorm_use_cuda(_native)
install(TARGETS _native LIBRARY DESTINATION fusednorm)
