# Everything but the module for Python, as the build in FUSEDNORM_LIBRARIES made it.

get_filename_component(folder "${FUSEDNORM_LIBRARIES}" ABSOLUTE)
if(NOT EXISTS "${folder}/libraries.cmake")
  message(FATAL_ERROR
    "FUSEDNORM_LIBRARIES must be the folder of a finished build of fusednorm, with a "
    "file libraries.cmake. Received: ${FUSEDNORM_LIBRARIES}")
endif()
include("${folder}/libraries.cmake")

set(FUSEDNORM_WITH_CUDA OFF)
if(TARGET fusednorm_cuda)
  set(FUSEDNORM_WITH_CUDA ON)
  find_package(CUDAToolkit REQUIRED)
endif()
foreach(name IN ITEMS libfusednorm_cuda.so libfusednorm_ops.so _build_info.py)
  if(EXISTS "${folder}/${name}")
    install(FILES "${folder}/${name}" DESTINATION fusednorm)
  endif()
endforeach()
message(STATUS "fusednorm: building the module only, for the libraries in ${folder}")
