# fusednorm_core: the kernel API and its CPU kernels, without TensorFlow or Python.

file(GLOB sources CONFIGURE_DEPENDS csrc/core/*.cc csrc/cpu/*.cc)
list(FILTER sources EXCLUDE REGEX "/kernels\\.cc$")
add_library(fusednorm_core STATIC ${sources})
fusednorm_compile_options(fusednorm_core)

# Compiles csrc/cpu/kernels.cc for one instruction set, an object per data type so
# that they build in parallel.
function(fusednorm_add_cpu_kernels isa)
  foreach(data IN ITEMS float half bfloat16 double)
    set(kernels fusednorm_${isa}_${data})
    add_library(${kernels} OBJECT csrc/cpu/kernels.cc)
    fusednorm_compile_options(${kernels})
    target_compile_definitions(${kernels} PRIVATE
      FUSEDNORM_ISA=${isa} FUSEDNORM_DATA=${data})
    # No contraction: a fused multiply-add only where the source says so, so that
    # instruction sets differ by the order of their sums and nothing else. Neither
    # errno nor traps: nobody reads them, and both keep loops from being vectorised.
    target_compile_options(${kernels} PRIVATE
      -O2 -fvect-cost-model=dynamic -ffp-contract=off -fno-math-errno -fno-trapping-math
      -Wno-psabi ${ARGN})
    target_sources(fusednorm_core PRIVATE $<TARGET_OBJECTS:${kernels}>)
  endforeach()
endfunction()

if(CMAKE_SYSTEM_PROCESSOR MATCHES "^(x86_64|AMD64|amd64)$")
  # A vector of four SSE2 registers takes the compiler longest, and only processors
  # without AVX2, those from before 2013, use it.
  fusednorm_add_cpu_kernels(baseline -O1)
  set(avx2 -mavx2 -mfma -mf16c)
  set(avx512
    ${avx2} -mavx512f -mavx512bw -mavx512vl -mavx512dq -mprefer-vector-width=512)
  fusednorm_add_cpu_kernels(avx2 ${avx2})
  fusednorm_add_cpu_kernels(avx512 ${avx512})
  target_compile_definitions(fusednorm_core PRIVATE
    FUSEDNORM_HAVE_AVX2 FUSEDNORM_HAVE_AVX512)
else()
  fusednorm_add_cpu_kernels(baseline)
endif()
