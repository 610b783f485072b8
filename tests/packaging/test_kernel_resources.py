"""What the kernels take: nothing spills, every architecture has all of them."""

import collections
import dataclasses
import re
import subprocess
from pathlib import Path

import fusednorm
import pytest
from fusednorm import _build_info
from support.instances import rows_instances
from support.machine_code import kernel_resources, rows_budgets

LIBRARY = Path(fusednorm.__file__).parent / "libfusednorm_cuda.so"

needs_cuda = pytest.mark.skipif(
    _build_info.CUDA_VERSION is None, reason="BUILD WITHOUT CUDA: no kernels to look at"
)


@pytest.fixture(scope="module")
def kernels():
    return kernel_resources.read(LIBRARY)


@needs_cuda
def test_nothing_spills(kernels):
    spilling = [kernel for kernel in kernels if kernel.stack]
    assert not spilling, "\n".join(map(str, spilling))


@needs_cuda
def test_spilled_registers_are_seen(nvcc, tmp_path):
    """They are part of the stack frame, which ptxas and cuobjdump call alike."""
    source = tmp_path / "spill.cu"
    source.write_text(
        """
        template <int N> __global__ void __launch_bounds__(1024, 2) Sums(float* a) {
          float v[N], sum = 0;
          #pragma unroll
          for (int i = 0; i < N; i++) v[i] = a[i * 1024 + threadIdx.x];
          __syncthreads();
          #pragma unroll
          for (int i = 0; i < N; i++) a[i * 1024 + threadIdx.x] = v[N - 1 - i] / v[i];
        }
        template __global__ void Sums<2>(float*);
        template __global__ void Sums<48>(float*);
        """
    )
    library = tmp_path / "spill.o"
    command = [nvcc, "-c", "-arch=sm_90", "-Xptxas=-v", "-o", library, source]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stderr
    few, many = kernel_resources.read(library)
    assert (few.kernel, few.stack, few.arch) == ("Sums<2>", 0, "90")
    assert many.kernel == "Sums<48>"
    assert f"{many.stack} bytes stack frame, " in said
    assert f"{many.stack} bytes stack frame, 0 bytes spill" not in said


# The most threads that a plan gives a kernel (cuda/plan), by its name. Those of rows
# are in the table of instances.
MOST_THREADS = {
    "LongRowSums": 256,
    "LongRowGradient": 256,
    "ColumnSums": 512,
    "TileForward": 512,
    "TileBackward": 512,
    "StreamLinesForward": 256,
    "StreamLinesBackward": 256,
    "StreamRunsForward": 256,
    "StreamRunsBackward": 256,
    "CountMask": 256,
    "SecondOrderRows": 256,
    "SecondOrderRuns": 256,
    "SecondOrderTiles": 256,
}
ELEMENT_BYTES = {"float": 4, "Half": 2, "Bfloat16": 2, "double": 8}


def instance_of(direction, arguments):
    """Returns the line of the table of the kernel of rows with these arguments."""
    dtype, vectors, block, features = arguments.split(", ", 3)
    general = features.startswith("General")
    wanted = (
        ELEMENT_BYTES[dtype],
        general,
        not general or features.startswith("General<true>"),
        int(vectors),
        block == "true",
    )
    (line,) = (
        each
        for each in rows_instances(direction)
        if dataclasses.astuple(each)[: len(wanted)] == wanted
    )
    return line


def most_threads(name):
    template, arguments = re.fullmatch(r"(\w+)<(.*)>", name).groups()
    if template in MOST_THREADS:
        return MOST_THREADS[template]
    assert template.startswith("Rows"), name
    return instance_of(template.removeprefix("Rows").lower(), arguments).threads


def least_blocks(name):
    """Returns how many blocks of that size have to find registers together.

    While a block of `stream` waits for another one, a second one has work; StreamBlocks
    (kernels/stream/geometry.h) says where there is no room for it.
    """
    found = re.fullmatch(r"Stream(\w+)<(\w+), StreamFeatures<(\w+), \w+>>", name)
    if found is None:
        return 1
    kernel, dtype, general = found.groups()
    element_bytes = ELEMENT_BYTES[dtype]
    general_lines = kernel == "LinesBackward" and general == "true"
    alone = element_bytes == 8 or (element_bytes == 2 and general_lines)
    return 1 if alone else 2


@pytest.mark.parametrize(
    ("name", "threads"),
    [
        ("RowsForward<Half, 4, true, Plain<true, false>>", 256),
        ("RowsForward<float, 16, true, General<false>>", 512),
        ("RowsBackward<Bfloat16, 2, false, General<true>>", 192),
        ("TileBackward<Bfloat16, 4>", 512),
        ("StreamLinesForward<Half, StreamFeatures<false, true>>", 2 * 256),
        ("StreamRunsBackward<double, StreamFeatures<true, false>>", 256),
        ("StreamLinesBackward<Half, StreamFeatures<true, true>>", 256),
        ("StreamRunsBackward<Half, StreamFeatures<true, true>>", 2 * 256),
        ("ColumnSums<double>", 512),
    ],
)
def test_most_threads(name, threads):
    """Of names as `kernel_resources` has them."""
    assert most_threads(name) * least_blocks(name) == threads


@needs_cuda
def test_a_block_finds_its_registers(kernels):
    assert kernels
    for kernel in kernels:
        if "FillMultiprocessor" in kernel.kernel:
            continue  # never launched, cuda/device/devices.cu
        print(kernel.arch, kernel.registers, kernel.shared, kernel.kernel)
        threads = most_threads(kernel.kernel) * least_blocks(kernel.kernel)
        assert 0 < kernel.registers <= 65536 // threads, kernel


@needs_cuda
def test_every_kernel_on_every_architecture(kernels):
    architectures = set(_build_info.CUDA_ARCHITECTURES)
    assert kernels
    found = {}
    for kernel in kernels:
        found.setdefault(kernel.kernel, set()).add(kernel.arch)
    assert all(present == architectures for present in found.values())


@needs_cuda
def test_number_of_kernels(kernels):
    # Pinned, because each costs build time and size for every architecture.
    pinned = rows_budgets.load_table()["kernels_per_architecture"]
    counts = collections.Counter(kernel.arch for kernel in kernels)
    assert set(counts.values()) == {pinned}, counts
