#!/usr/bin/env bash
# Builds fusednorm for the GPU of this machine and checks and times its CUDA kernels:
# one command, no TensorFlow, no network, at most 8 minutes (11 with --compile). The times
# are those of `python -m fusednorm bench --device gpu --suite kernels`.
#
#   benchmarks/gpu_check.sh [--quick] [--compile] [--no-sanitizer] [--no-benchmark]
#                           [--ncu N] [--out DIR] [--seconds N] [--commit ID]
#
#   --quick         bfloat16 only, half of the time
#   --compile       torch.compile is timed too, which takes 3 minutes more
#   --no-sanitizer  not under compute-sanitizer
#   --ncu N         afterwards profile the N slowest cases with ncu (2 minutes more)
#   --out DIR       where everything goes (default build/gpu)
#   --seconds N     time for everything but --compile and --ncu (default 480)
#   --commit ID     what the results are of, where the tree is a copy without git
#
# Needs nvcc, cmake, ninja, a C++ compiler, and a Python with its headers, PyTorch,
# pybind11 >= 3, pytest and ml_dtypes: $PYTHON, default python3. A step that fails does not
# keep the next ones from running; the exit code is that of the first that failed.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

quick=0 compile=0 sanitizer=1 benchmark=1 ncu=0 out=build/gpu seconds=480 commit=${FUSEDNORM_COMMIT:-}
need() { [ $# -ge 2 ] || { echo "$1 needs a value" >&2; exit 64; }; }
while [ $# -gt 0 ]; do
  case $1 in
    --quick) quick=1 ;;
    --compile) compile=1 ;;
    --no-sanitizer) sanitizer=0 ;;
    --no-benchmark) benchmark=0 ;;
    --ncu) need "$@"; ncu=$2; shift ;;
    --out) need "$@"; out=$2; shift ;;
    --seconds) need "$@"; seconds=$2; shift ;;
    --commit) need "$@"; commit=$2; shift ;;
    -h | --help) sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p;}' benchmarks/gpu_check.sh; exit 0 ;;
    *) echo "unknown option $1; see --help" >&2; exit 64 ;;
  esac
  shift
done
for number in "$ncu" "$seconds"; do
  [[ $number =~ ^[0-9]+$ ]] || { echo "not a number: $number" >&2; exit 64; }
done
[ "$quick" = 0 ] || seconds=$((seconds / 2))
[ "$compile" = 0 ] || seconds=$((seconds + 180))
mkdir -p "$out" && out=$(cd "$out" && pwd) || exit 73

PYTHON=${PYTHON:-python3}
PYTHON=$(command -v "$PYTHON") || { echo "no Python: set PYTHON" >&2; exit 69; }
for folder in "${CUDA_HOME:-}" /usr/local/cuda; do
  [ -n "$folder" ] && [ -d "$folder/bin" ] && PATH=$PATH:$folder/bin
done
export PATH PYTHONUNBUFFERED=1 FUSEDNORM_COMMIT=$commit
site=$out/site results=$out/results/kernels.json
export PYTHONPATH=$site${PYTHONPATH:+:$PYTHONPATH}

names=() outcomes=() code=0 pid= interrupted=0
SECONDS=0
# timeout has a process group of its own and passes signals on to all of it.
trap 'interrupted=1; [ -z "$pid" ] || kill -TERM "$pid" 2>/dev/null' INT TERM

# step NAME LIMIT RESERVE COMMAND...: runs it within LIMIT seconds, leaving RESERVE
# seconds of the whole for later steps; the output goes to the screen and to NAME.log.
step() {
  local name=$1 limit=$2 reserve=$3 begin=$SECONDS rc result
  shift 3
  local left=$((seconds - SECONDS - reserve))
  [ "$limit" -le "$left" ] || limit=$((left > 0 ? left : 0))
  printf '\n=== %s (at most %d s)\n' "$name" "$limit"
  if [ "$interrupted" = 1 ]; then
    rc=130 result="not run: interrupted"
  elif [ "$limit" -lt 5 ]; then
    rc=124 result="not run: no time"
    echo "$result"
  else
    # TERM first: programs then keep what they have.
    timeout --kill-after=10 --signal=TERM "$limit" "$@" \
      > >(tee "$out/$name.log") 2>&1 </dev/null &
    pid=$!
    wait "$pid"
    rc=$?
    # A signal to this script ends `wait`, not the program.
    while kill -0 "$pid" 2>/dev/null; do
      wait "$pid"
      rc=$?
    done
    pid=
    sleep 0.2 # for tee
    case $rc in
      0) result=passed ;;
      124 | 137) result="failed: out of time" ;;
      *) result="failed: exit code $rc" ;;
    esac
    result+=", $((SECONDS - begin)) s"
  fi
  names+=("$name") outcomes+=("$result")
  [ "$rc" = 0 ] || [ "$code" != 0 ] || code=$rc
  return "$rc"
}

skip() {
  names+=("$1") outcomes+=("skipped: $2")
  printf '\n=== %s skipped: %s\n' "$1" "$2"
}

# Of the device that the tests will use.
architecture() {
  "$PYTHON" -c 'import torch; print("%d%d" % torch.cuda.get_device_capability())'
}

machine() {
  date -u
  nvidia-smi
  nvcc --version | tail -2
  cmake --version | head -1
  "$PYTHON" --version
  "$PYTHON" - <<'EOF'
import importlib, sysconfig, pathlib, sys
missing = []
for name in ("torch", "pybind11", "pytest", "numpy", "ml_dtypes"):
    try:
        module = importlib.import_module(name)
        print(name, getattr(module, "__version__", ""))
    except ImportError as error:
        missing.append(f"{name}: {error}")
header = pathlib.Path(sysconfig.get_path("include"), "Python.h")
if not header.exists():
    missing.append(f"{header}: the headers of Python")
import torch
if not torch.cuda.is_available():
    missing.append("a CUDA device that PyTorch can use")
print("\n".join(f"missing: {each}" for each in missing))
sys.exit(bool(missing))
EOF
}

build() {
  local arch
  arch=$(architecture) || return
  echo "compute capability $arch"
  cmake -S . -B "$out/cmake" -G Ninja -DCMAKE_BUILD_TYPE=Release \
    -DPython_EXECUTABLE="$PYTHON" -DFUSEDNORM_TENSORFLOW=OFF -DFUSEDNORM_CUDA=on \
    -DFUSEDNORM_CUDA_ARCHITECTURES="$arch" || return
  cmake --build "$out/cmake" --parallel "$(nproc)" || return
  rm -rf "$site" && mkdir -p "$site" || return
  cp -r python/fusednorm "$site/fusednorm" || return
  rm -f "$site"/fusednorm/*.so "$site/fusednorm/_build_info.py"
  cmake --install "$out/cmake" --prefix "$site" || return
  "$PYTHON" -c 'from fusednorm import _native; print(_native.cuda_devices())'
}

# Out of time, pytest still says what it found.
unit_tests() {
  exec "$PYTHON" -c 'import signal, sys, pytest
signal.signal(signal.SIGTERM, signal.default_int_handler)
sys.exit(pytest.main(sys.argv[1:]))' \
    -m gpu tests/gpu -q -p no:cacheprovider --durations=10 --junitxml="$out/tests.xml"
}

# sanitize TOOL SECONDS [OPTION...]: the options go to sanitize.py.
sanitize() {
  local tool=$1 limit=$2
  shift 2
  exec "$PYTHON" benchmarks/sanitize.py --tool "$tool" --seconds "$limit" "$@"
}

time_kernels() {
  local options=(--device gpu --suite kernels --out "$out/results" --minutes "$1")
  [ "$quick" = 0 ] || options+=(--dtype bfloat16)
  [ "$compile" = 0 ] || options+=(--compile)
  [ -z "$commit" ] || options+=(--commit "$commit")
  exec "$PYTHON" -m fusednorm bench "${options[@]}"
}

profile() {
  local shape dtype pass
  while read -r shape dtype pass; do
    echo "--- $shape $dtype $pass"
    ncu --profile-from-start off --set full --page details --clock-control none \
      "$PYTHON" benchmarks/profile_kernels.py "$shape" "$dtype" "$pass" \
      >"$out/ncu-$shape-$dtype-$pass.txt" 2>&1 || return
  done < <("$PYTHON" benchmarks/profile_kernels.py --slowest "$ncu" --of "$results")
}

export -f architecture machine build unit_tests sanitize time_kernels profile
export PYTHON out site quick compile commit ncu results

# timeout runs programs, not functions.
in_bash=(bash -uo pipefail -c)

step machine 60 0 "${in_bash[@]}" machine
if step build 240 0 "${in_bash[@]}" build; then
  step tests 120 100 "${in_bash[@]}" unit_tests
  if [ "$sanitizer" = 0 ]; then
    skip sanitizer "not asked for"
  elif ! command -v compute-sanitizer >/dev/null; then
    skip sanitizer "no compute-sanitizer on this machine"
  else
    for tool in memcheck racecheck synccheck; do
      step "$tool" 50 150 "${in_bash[@]}" "sanitize $tool 20"
    done
    # Finds reads of memory that nobody has written; small problems, to save time.
    step initcheck 50 150 "${in_bash[@]}" "sanitize initcheck 20 --largest 20000"
  fi
  if [ "$benchmark" = 0 ]; then
    skip benchmark "not asked for"
  else
    # The report is written within the limit, hence a little less for the measuring.
    left=$((seconds - SECONDS - 30))
    rm -f "$results"
    minutes=$(awk "BEGIN { print ($left > 10 ? $left : 10) / 60 }")
    step benchmark $((left + 25)) 0 "${in_bash[@]}" "time_kernels $minutes"
    if [ "$ncu" != 0 ] && [ -f "$results" ]; then
      seconds=$((SECONDS + 120))
      step ncu 120 0 "${in_bash[@]}" profile
    fi
  fi
fi

printf '\n=== summary, %d s, in %s\n' "$SECONDS" "$out"
for i in "${!names[@]}"; do printf '%-10s %s\n' "${names[i]}" "${outcomes[i]}"; done
# How many cases meet the goal; the table itself is in the log and on the screen.
[ ! -f "$out/benchmark.log" ] || grep -h "meet the goal" "$out/benchmark.log"
exit "$code"
