# What all of our own targets are compiled and linked with.

set(CMAKE_CXX_STANDARD 17)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)
set(CMAKE_CXX_VISIBILITY_PRESET hidden)
set(CMAKE_VISIBILITY_INLINES_HIDDEN ON)

# TensorFlow's libraries are in the process before ours is loaded: a path to where
# they were at build time would be wrong on every other machine.
set(CMAKE_BUILD_WITH_INSTALL_RPATH ON)

# Sets warnings, include roots and paths as they appear in error messages. Not for
# targets with .cu files, whose compiler knows other flags.
function(fusednorm_compile_options target)
  target_include_directories(${target} PRIVATE
    "${PROJECT_SOURCE_DIR}/csrc" "${PROJECT_SOURCE_DIR}")
  target_compile_options(${target} PRIVATE
    -Wall -Wextra
    $<$<BOOL:${FUSEDNORM_WERROR}>:-Werror>
    "-ffile-prefix-map=${PROJECT_SOURCE_DIR}/=")
endfunction()

# Gives a target the plans and, where there are any, the CUDA kernels.
function(fusednorm_use_cuda target)
  target_link_libraries(${target} PRIVATE fusednorm_plan)
  if(FUSEDNORM_WITH_CUDA)
    target_link_libraries(${target} PRIVATE fusednorm_cuda CUDA::cudart_static)
    target_compile_definitions(${target} PRIVATE FUSEDNORM_WITH_CUDA=1)
    # All of our libraries are installed in one folder.
    set_target_properties(${target} PROPERTIES INSTALL_RPATH "$ORIGIN")
  endif()
endfunction()

# Exports nothing but the given symbols. Hidden visibility is not enough: templates of
# the C++ library are exported all the same, and would take the place of, or be
# replaced by, those of other libraries in the process.
function(fusednorm_export_only target)
  set(script "${CMAKE_CURRENT_BINARY_DIR}/${target}.map")
  set(globals "")
  foreach(symbol IN LISTS ARGN)
    string(APPEND globals "global: ${symbol}; ")
  endforeach()
  file(CONFIGURE OUTPUT "${script}" CONTENT "{ ${globals}local: *; };\n")
  target_link_options(${target} PRIVATE
    "-Wl,--version-script=${script}" $<$<CONFIG:Release>:-s>)
endfunction()
