# libfusednorm_ops.so: the ops, compiled against the TensorFlow that
# build_backend/tensorflow_location.py finds. Sets FUSEDNORM_TENSORFLOW_VERSION.

set(ENV{FUSEDNORM_TENSORFLOW_DIR} "${FUSEDNORM_TENSORFLOW_DIR}")
execute_process(
  COMMAND "${Python_EXECUTABLE}" "${PROJECT_SOURCE_DIR}/build_backend/tensorflow_location.py"
  OUTPUT_VARIABLE found OUTPUT_STRIP_TRAILING_WHITESPACE
  ERROR_VARIABLE error RESULT_VARIABLE result)
if(result)
  message(FATAL_ERROR
    "${error}\n-DFUSEDNORM_TENSORFLOW=OFF builds only the module for NumPy arrays.")
endif()
list(GET found 0 folder)
list(GET found 1 FUSEDNORM_TENSORFLOW_VERSION)
message(STATUS
  "fusednorm: building for TensorFlow ${FUSEDNORM_TENSORFLOW_VERSION} in ${folder}")

file(GLOB sources CONFIGURE_DEPENDS csrc/tensorflow/*.cc)
add_library(fusednorm_ops SHARED ${sources})
fusednorm_compile_options(fusednorm_ops)
fusednorm_export_only(fusednorm_ops)
# The paths beside include/ are for what XLA's headers include.
target_include_directories(fusednorm_ops SYSTEM PRIVATE
  "${folder}/include"
  "${folder}/include/external/farmhash_archive/src"
  "${folder}/include/external/highwayhash")
# As TensorFlow itself was compiled: tf.sysconfig.get_compile_flags().
target_compile_definitions(fusednorm_ops PRIVATE
  _GLIBCXX_USE_CXX11_ABI=1 EIGEN_MAX_ALIGN_BYTES=64)
target_compile_options(fusednorm_ops PRIVATE "-ffile-prefix-map=${folder}/include/=")
target_link_libraries(fusednorm_ops PRIVATE
  fusednorm_core
  "${folder}/libtensorflow_framework.so.2"
  "${folder}/libtensorflow_cc.so.2")
fusednorm_use_cuda(fusednorm_ops)
# A symbol that neither we nor TensorFlow have is an error here and now, rather than
# when a user loads the library.
target_link_options(fusednorm_ops PRIVATE -Wl,-z,defs)
install(TARGETS fusednorm_ops LIBRARY DESTINATION fusednorm)
