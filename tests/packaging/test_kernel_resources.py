"""What ptxas says of the kernels: nothing spills, every architecture has all."""

import collections
import json
import re
from pathlib import Path

import fusednorm
import kernel_budgets
import pytest
from fusednorm import _build_info

RESOURCES = Path(fusednorm.__file__).parent / "_kernel_resources.json"

pytestmark = pytest.mark.skipif(
    _build_info.CUDA_VERSION is None, reason="BUILD WITHOUT CUDA: no kernels to look at"
)


@pytest.fixture(scope="module")
def kernels():
    return json.loads(RESOURCES.read_text())


def test_nothing_spills(kernels):
    spilling = [
        kernel
        for kernel in kernels
        if kernel["spill_stores"] or kernel["spill_loads"] or kernel["stack"]
    ]
    assert not spilling, "\n".join(map(str, spilling))


# The most threads that a plan gives a kernel (cuda/plan/rows.h, cuda/plan/tile.cc,
# cuda/plan/second_order.h), by the beginning of its name; BlockRowsBackward and
# SplitRowsSums by type and width.
MOST_THREADS = {
    "WarpRows": 256,
    "BlockRowsForward": 512,
    "SharedRowsForward": 512,
    "SharedRowsBackward": 256,
    "SplitRowsMoments": 512,
    "SplitRowsNormalize": 512,
    "SplitRowsGradient": 512,
    "RunsBackward": 256,
    "Tile": 256,
    "SplitTile": 256,
    "SumParams": 256,
    "CountMask": 256,
    "SecondOrder": 256,
}


def most_threads(name):
    for beginning, threads in MOST_THREADS.items():
        if name.startswith(beginning):
            return threads
    kind, arguments = re.fullmatch(r"(\w+)<(.*)>", name).groups()
    assert kind in ("BlockRowsBackward", "SplitRowsSums"), name
    dtype, width, _ = arguments.split(", ")
    if width == "1" or dtype == "double":
        return 256
    return 384 if dtype == "float" else 512


def test_a_block_finds_its_registers(kernels):
    for kernel in kernels:
        if "FillMultiprocessor" in kernel["kernel"]:
            continue  # never launched, cuda/device/devices.cu
        print(kernel["arch"], kernel["registers"], kernel["shared"], kernel["kernel"])
        threads = most_threads(kernel["kernel"])
        assert 0 < kernel["registers"] <= 65536 // threads, kernel


def test_every_kernel_on_every_architecture(kernels):
    architectures = set(_build_info.CUDA_ARCHITECTURES)
    assert kernels
    found = {}
    for kernel in kernels:
        found.setdefault(kernel["kernel"], set()).add(kernel["arch"])
    assert all(present == architectures for present in found.values())


def test_number_of_kernels(kernels):
    # Pinned, because each costs build time and size for every architecture.
    pinned = kernel_budgets.load_table()["kernels_per_architecture"]
    counts = collections.Counter(kernel["arch"] for kernel in kernels)
    assert set(counts.values()) == {pinned}, counts
