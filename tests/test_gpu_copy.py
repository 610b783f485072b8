"""The yardstick of the GPU benchmark, on a machine that only pretends to copy."""

import sys
import types
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

sys.path.append(str(Path(__file__).resolve().parents[1] / "benchmarks"))

import gpu_copy
import gpu_report


class Tensor(np.ndarray):
    """An array with the one method of a tensor that is needed."""

    def zero_(self):
        self[...] = 0


def ones():
    return np.ones(16, np.int32).view(Tensor)


class Machine:
    """Answers with given times instead of measuring."""

    device = "none"
    rounds = 3

    def __init__(self, seconds, *, graphs=True):
        self.seconds = seconds
        self.graphs = graphs
        self.timing = self

    def prepare(self, name, call, sets, calls):
        call(0)
        return SimpleNamespace(name=name, method="graph" if self.graphs else "calls")

    def as_calls(self, name, call, sets, calls):
        return SimpleNamespace(name=name, method="calls")

    def measure(self, competitors, rounds, seconds):
        return {each.name: [self.seconds[each.name]] for each in competitors}

    def release(self):
        pass


MEMCPY = {"memcpy in a graph": 4e-4, "memcpy by calls": 5e-4}


def kernel_that(copies):
    module = types.ModuleType("gpu_copy_triton")
    module.NAME = "Triton 0.0"
    module.copy = copies
    return module


def rightly(source, destination):
    destination[...] = source


@pytest.fixture(autouse=True)
def _arrays_for_tensors(monkeypatch):
    pairs = [(ones(), ones())]
    monkeypatch.setattr(gpu_copy, "pairs_of", lambda moved, count, device: pairs)
    monkeypatch.setattr(gpu_copy, "memcpy", rightly)


@pytest.mark.parametrize(
    ("kernel_seconds", "best"),
    [(2.5e-4, 2.5e-4), (6e-4, 4e-4)],
    ids=["kernel", "memcpy"],
)
def test_yardstick_is_the_faster_of_memcpy_and_kernel(
    monkeypatch, kernel_seconds, best
):
    monkeypatch.setitem(sys.modules, "gpu_copy_triton", kernel_that(rightly))
    kernel = {"kernel in a graph": kernel_seconds, "kernel by calls": 7e-4}
    found = gpu_copy.measure(Machine(MEMCPY | kernel))
    assert found.bytes_per_second == pytest.approx(gpu_copy.COPY_BYTES / best)
    # Both are recorded, whichever is faster.
    for name, seconds in (MEMCPY | kernel).items():
        assert found.record[name] == pytest.approx(gpu_copy.COPY_BYTES / seconds)
    assert found.record["kernel"] == "Triton 0.0"


def test_cases_are_copied_by_the_faster_way(monkeypatch):
    def by_kernel(source, destination):
        rightly(source, destination)

    monkeypatch.setitem(sys.modules, "gpu_copy_triton", kernel_that(by_kernel))
    kernel = {"kernel in a graph": 1e-4, "kernel by calls": 1e-4}
    assert gpu_copy.measure(Machine(MEMCPY | kernel)).copy is by_kernel
    kernel = {"kernel in a graph": 1.0, "kernel by calls": 1.0}
    assert gpu_copy.measure(Machine(MEMCPY | kernel)).copy is gpu_copy.memcpy


def test_without_triton_memcpy_is_the_yardstick_and_the_report_says_so(monkeypatch):
    # None makes the import fail, also where Triton is installed.
    monkeypatch.setitem(sys.modules, "gpu_copy_triton", None)
    found = gpu_copy.measure(Machine(MEMCPY))
    assert found.bytes_per_second == pytest.approx(gpu_copy.COPY_BYTES / 4e-4)
    assert found.record["kernel"].startswith("missing: ModuleNotFoundError")
    text = gpu_report.yardstick(found.record)
    assert "copy kernel: missing: ModuleNotFoundError" in text
    assert "memcpy in a graph" in text


def test_a_kernel_that_copies_wrongly_is_no_yardstick(monkeypatch):
    def wrongly(source, destination):
        destination[:-1] = source[:-1]

    monkeypatch.setitem(sys.modules, "gpu_copy_triton", kernel_that(wrongly))
    found, why = gpu_copy.kernel(ones(), ones())
    assert found is None
    assert why == "missing: Triton's copy is wrong"


def test_without_graphs_only_calls_are_recorded(monkeypatch):
    monkeypatch.setitem(sys.modules, "gpu_copy_triton", None)
    found = gpu_copy.measure(Machine(MEMCPY, graphs=False))
    assert found.bytes_per_second == pytest.approx(gpu_copy.COPY_BYTES / 5e-4)
    assert "memcpy in a graph" not in found.record
