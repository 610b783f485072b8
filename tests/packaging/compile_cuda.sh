#!/usr/bin/env bash
# Compiles our CUDA sources with another nvcc, such as one of CUDA 12, and links nothing:
# the API, the devices, and the kernels of each line of cuda/instances.txt for float16.
#
#   tests/packaging/compile_cuda.sh NVCC [ARCHITECTURE...]    # sm_90, unless named
#
# PyPI's nvidia-cuda-nvcc-cu12 has ptxas and libnvvm, but neither nvcc nor cudafe++.
# Debian 13's nvidia-cuda-toolkit, of CUDA 12.4, has them all.
set -euo pipefail
nvcc=$1
shift
cd "$(dirname "$0")/../.."
objects=$(mktemp -d)
trap 'rm -r "$objects"' EXIT

flags=(-std=c++17 -O3 -DNDEBUG -I. -Icsrc -Werror=all-warnings
  -Xcompiler=-fPIC,-Wall,-Wextra,-Wno-unknown-pragmas)
for architecture in "${@:-sm_90}"; do
  flags+=("-gencode=arch=compute_${architecture#sm_},code=$architecture")
done

compile() {
  echo "$*"
  "$nvcc" "${flags[@]}" -c -o "$objects/object.o" "$@"
}

"$nvcc" --version | grep release
for source in cuda/api/*.cu cuda/device/*.cu; do
  compile "$source"
done
grep -v '^#' cuda/instances.txt | while read -r scheme args types; do
  [[ " $types " == *' Half '* ]]
  compile cuda/instance.cu "-DFUSEDNORM_SCHEME=$scheme" "-DFUSEDNORM_ARGS=$args" \
    -DFUSEDNORM_DATA=Half
done
echo "All sources compile."
