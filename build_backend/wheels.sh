#!/usr/bin/env bash
# Builds dist/: the sdist and, from it, a wheel for each Python.
#
#   wheels.sh BIN PYTHON...   BIN: the programs of an environment with TensorFlow and
#                             the dependency group `build`
set -euo pipefail
bin=$(realpath --no-symlinks "$1")
shift
folder=$PWD/build/wheels

rm -rf dist "$folder"
"$bin/python" -m build --sdist
mkdir -p "$folder"
tar -xf dist/*.tar.gz -C "$folder" --strip-components 1

# The libraries are the same ones for every Python.
tensorflow=$("$bin/python" build_backend/tensorflow_location.py)
export FUSEDNORM_TENSORFLOW_DIR=${tensorflow%;*}
for python; do
  "$bin/pip" --python "$python" wheel --no-deps --wheel-dir "$folder/dist" "$folder"
  if [[ -z ${FUSEDNORM_LIBRARIES:-} ]]; then
    FUSEDNORM_LIBRARIES=$(echo "$folder"/build/temp.*/_skbuild)
    export FUSEDNORM_LIBRARIES
  fi
done

# Tags the wheels with the oldest system that they run on, and leaves the libraries as
# they are: TensorFlow brings the excluded ones, and CUDA's runtime is linked statically.
"$bin/auditwheel" repair --patcher none --exclude 'libtensorflow_*.so.*' \
  --wheel-dir dist "$folder"/dist/*.whl
