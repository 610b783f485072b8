# The switches of the build: -DNAME=value, else the environment variable NAME (the way
# through `pip install`), else the default.

macro(fusednorm_option name default)
  if(NOT DEFINED ${name})
    set(${name} "$ENV{${name}}")
    if("${${name}}" STREQUAL "")
      set(${name} "${default}")
    endif()
  endif()
endmacro()

fusednorm_option(FUSEDNORM_TENSORFLOW ON)           # off: no ops, only _native
fusednorm_option(FUSEDNORM_TENSORFLOW_DIR "")       # .../site-packages/tensorflow
fusednorm_option(FUSEDNORM_CUDA auto)               # auto, on or off
fusednorm_option(FUSEDNORM_CUDA_ARCHITECTURES "")   # e.g. 80;90
fusednorm_option(FUSEDNORM_CUDA_LINEINFO OFF)       # source lines for profilers
fusednorm_option(FUSEDNORM_WERROR OFF)              # warnings are errors
# The folder of a build for another Python. This build compiles the module for its own
# Python and takes the rest from there: no other file depends on Python.
fusednorm_option(FUSEDNORM_LIBRARIES "")

string(TOLOWER "${FUSEDNORM_CUDA}" FUSEDNORM_CUDA)
if(NOT FUSEDNORM_CUDA MATCHES "^(auto|on|off)$")
  message(FATAL_ERROR
    "FUSEDNORM_CUDA must be auto, on or off. Received: ${FUSEDNORM_CUDA}")
endif()

if(NOT CMAKE_BUILD_TYPE)
  set(CMAKE_BUILD_TYPE Release)
endif()
