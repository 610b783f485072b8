#!/usr/bin/env bash
# Checks fusednorm's ops and layers through TensorFlow on the GPU of this machine
# (tests/gpu/test_tensorflow_gpu.py), and then runs the benchmark there. No network.
#
#   benchmarks/gpu_tensorflow.sh [--tensorflow-parts DIR --unpack SCRIPT] [--site DIR]
#                                [--ops-library FILE] [--native FILE] [--build]
#                                [--out DIR] [--minutes N] [--commit ID] [-- OPTION...]
#
# TensorFlow is the one that $PYTHON (default python3) imports, or:
#   --tensorflow-parts DIR  the parts of a packed TensorFlow, to be joined first
#   --unpack SCRIPT         what joins them: sourced with DIR and the site folder, it
#                           leaves PYTHONPATH and LD_LIBRARY_PATH set
#   --site DIR              where it goes or, without parts, where it is (default
#                           build/gpu/tensorflow)
# The package is this checkout's, with libraries that were
#   --ops-library FILE      compiled elsewhere for this TensorFlow (libfusednorm_ops.so),
#   --native FILE           and for this Python (_native*.so; optional), or
#   --build                 compiled here, where TensorFlow's headers are; else those of
#                           the fusednorm that $PYTHON imports.
# What follows -- goes to `python -m fusednorm bench --device gpu`; else --suite layers.
# Results: OUT/results, and a log of the tests.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

parts= unpack= site= library= native= build=0 out=build/gpu minutes=8
commit=${FUSEDNORM_COMMIT:-}
while [ $# -gt 0 ]; do
  case $1 in
    --build) build=1; shift; continue ;;
    --) shift; break ;;
    -h | --help) sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p;}' benchmarks/gpu_tensorflow.sh; exit 0 ;;
  esac
  [ $# -ge 2 ] || { echo "$1 needs a value; see --help" >&2; exit 64; }
  case $1 in
    --tensorflow-parts) parts=$2 ;;
    --unpack) unpack=$2 ;;
    --site) site=$2 ;;
    --ops-library) library=$2 ;;
    --native) native=$2 ;;
    --out) out=$2 ;;
    --minutes) minutes=$2 ;;
    --commit) commit=$2 ;;
    *) echo "unknown option $1; see --help" >&2; exit 64 ;;
  esac
  shift 2
done
die() { echo "$1" >&2; exit "${2:-64}"; }
[ -z "$parts" ] || [ -n "$unpack" ] || die "--tensorflow-parts needs --unpack"
for file in "$unpack" "$library" "$native"; do
  [ -z "$file" ] || [ -f "$file" ] || die "no such file: $file" 66
done
mkdir -p "$out" && out=$(cd "$out" && pwd) || exit 73
PYTHON=$(command -v "${PYTHON:-python3}") || die "no Python: set PYTHON" 69

if [ -n "$parts" ]; then
  site=${site:-$out/tensorflow}
  mkdir -p "$site" && site=$(cd "$site" && pwd)
  # shellcheck disable=SC1090
  set +u && source "$unpack" "$parts" "$site" && set -u
elif [ -n "$site" ]; then
  site=$(cd "$site" && pwd) || exit 66
  export PYTHONPATH=$site${PYTHONPATH:+:$PYTHONPATH}
  folders=$(find "$site/nvidia" "$site/cuda12" -name '*.so*' -printf '%h\n' 2>/dev/null | sort -u | paste -sd:)
  export LD_LIBRARY_PATH=$folders${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
fi
export TF_CPP_MIN_LOG_LEVEL=${TF_CPP_MIN_LOG_LEVEL:-1} PYTHONUNBUFFERED=1
version=$("$PYTHON" -c 'from importlib.metadata import version; print(version("tensorflow"))' 2>/dev/null) ||
  die "$PYTHON finds no TensorFlow: install it, or see --help" 69
echo "TensorFlow $version"

if [ "$build" = 1 ] || [ -n "$library" ]; then
  package=$out/package
  rm -rf "$package" && mkdir -p "$package" && cp -r python/fusednorm "$package/" || exit 73
  rm -f "$package"/fusednorm/*.so "$package/fusednorm/_build_info.py"
  if [ "$build" = 1 ]; then
    cmake -S . -B "$out/cmake-tensorflow" -G Ninja -DPython_EXECUTABLE="$PYTHON" \
      -DFUSEDNORM_CUDA=on &&
      cmake --build "$out/cmake-tensorflow" --parallel "$(nproc)" &&
      cmake --install "$out/cmake-tensorflow" --prefix "$package" || exit
  else
    cp "$library" "$package/fusednorm/libfusednorm_ops.so"
    [ -z "$native" ] || cp "$native" "$package/fusednorm/"
    info=$(dirname "$library")/_build_info.py
    if [ -f "$info" ]; then
      cp "$info" "$package/fusednorm/"
    else
      # What the package asks of its build: the version that the library is bound to.
      VERSION=$(sed -n 's/^version = "\(.*\)"$/\1/p' pyproject.toml) TF=$version \
        "$PYTHON" - >"$package/fusednorm/_build_info.py" <<'EOF'
import os
print(f"VERSION = {os.environ['VERSION']!r}")
print(f"TENSORFLOW_VERSION = {os.environ['TF']!r}")
print("CUDA_VERSION = None\nCUDA_ARCHITECTURES = []\nCOMPILER = 'unknown'")
print("BUILD_TYPE = 'Release'")
EOF
    fi
  fi
  export PYTHONPATH=$package${PYTHONPATH:+:$PYTHONPATH}
fi

"$PYTHON" -m pytest -m gpu tests/gpu/test_tensorflow_gpu.py -q -p no:cacheprovider \
  2>&1 | tee "$out/tensorflow.log"
code=${PIPESTATUS[0]}
options=(--device gpu --out "$out/results" --minutes "$minutes")
[ -z "$commit" ] || options+=(--commit "$commit")
[ $# -gt 0 ] || set -- --suite layers
"$PYTHON" -m fusednorm bench "${options[@]}" "$@" || code=$?
exit "$code"
