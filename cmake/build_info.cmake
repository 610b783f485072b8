# fusednorm/_build_info.py: what the package knows of its own build.

function(fusednorm_python_literal output value)
  if(value)
    set(${output} "\"${value}\"" PARENT_SCOPE)
  else()
    set(${output} None PARENT_SCOPE)
  endif()
endfunction()

fusednorm_python_literal(tensorflow_version "${FUSEDNORM_TENSORFLOW_VERSION}")
set(cuda_version "")
set(cuda_architectures "")
if(FUSEDNORM_WITH_CUDA)
  set(cuda_version "${CUDAToolkit_VERSION_MAJOR}.${CUDAToolkit_VERSION_MINOR}")
  list(TRANSFORM FUSEDNORM_CUDA_ARCHITECTURES REPLACE "(.+)" "\"\\1\""
    OUTPUT_VARIABLE cuda_architectures)
  list(JOIN cuda_architectures ", " cuda_architectures)
endif()
fusednorm_python_literal(cuda_version "${cuda_version}")

# Where this is a checkout of the project itself, not a folder in someone else's.
set(commit "")
if(EXISTS "${PROJECT_SOURCE_DIR}/.git")
  execute_process(COMMAND git -C "${PROJECT_SOURCE_DIR}" rev-parse HEAD
    OUTPUT_VARIABLE commit OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
endif()
fusednorm_python_literal(commit "${commit}")

configure_file(cmake/_build_info.py.in _build_info.py @ONLY)
install(FILES "${CMAKE_CURRENT_BINARY_DIR}/_build_info.py" DESTINATION fusednorm)

# For builds with FUSEDNORM_LIBRARIES (libraries.cmake).
set(linked fusednorm_core fusednorm_plan)
if(FUSEDNORM_WITH_CUDA)
  list(APPEND linked fusednorm_cuda)
endif()
export(TARGETS ${linked} FILE "${CMAKE_CURRENT_BINARY_DIR}/libraries.cmake")
