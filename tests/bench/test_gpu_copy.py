"""The yardstick of the GPU benchmark, on a machine that only pretends to copy."""

import sys
import types

import numpy as np
import pytest
from fusednorm import bench
from fusednorm.bench import table, timing, yardstick


class Tensor(np.ndarray):
    """An array with the one method of a tensor that is needed."""

    def zero_(self):
        self[...] = 0


def ones():
    return np.ones(16, np.int32).view(Tensor)


class Machine:
    """Answers with given times instead of measuring."""

    torch_device = "none"

    def __init__(self, seconds, monkeypatch, *, graphs=True):
        self.graphs = graphs

        def measure(tasks, **_):
            for task in tasks:
                task.call(0)
            return {task.key: [seconds.get(task.key, 1.0)] for task in tasks}

        monkeypatch.setattr(timing, "measure", measure)

    def kernel_task(self, key, call, sets, estimate, moved):
        task = timing.Task(key, call, sets, estimate)
        task.method = "graph" if self.graphs else "calls"
        return task

    def synchronize(self):
        pass


MEMCPY = {"memcpy in a graph": 4e-4, "memcpy by calls": 5e-4}


COPY_KERNEL = "fusednorm.bench.copy_kernel"


def use_kernel(monkeypatch, copies):
    """Lets this be the copy kernel; None makes its import fail, as without Triton."""
    module = None
    if copies is not None:
        module = types.ModuleType(COPY_KERNEL)
        module.NAME, module.copy = "Triton 0.0", copies
    monkeypatch.delattr(bench, "copy_kernel", raising=False)
    monkeypatch.setitem(sys.modules, COPY_KERNEL, module)
    if module is not None:
        monkeypatch.setattr(bench, "copy_kernel", module, raising=False)


def rightly(source, destination):
    destination[...] = source


@pytest.fixture(autouse=True)
def _arrays_for_tensors(monkeypatch):
    pairs = [(ones(), ones())]
    monkeypatch.setattr(yardstick, "pairs_of", lambda moved, count, device: pairs)
    monkeypatch.setattr(yardstick, "memcpy", rightly)


@pytest.mark.parametrize(
    ("kernel_seconds", "best"),
    [(2.5e-4, 2.5e-4), (6e-4, 4e-4)],
    ids=["kernel", "memcpy"],
)
def test_yardstick_is_the_faster_of_memcpy_and_kernel(
    monkeypatch, kernel_seconds, best
):
    use_kernel(monkeypatch, rightly)
    kernel = {"kernel in a graph": kernel_seconds, "kernel by calls": 7e-4}
    found = yardstick.measure(Machine(MEMCPY | kernel, monkeypatch))
    assert found.record["bytes_per_second"] == pytest.approx(
        yardstick.COPY_BYTES / best
    )
    # Both are recorded, whichever is faster.
    for name, seconds in (MEMCPY | kernel).items():
        assert found.record[name] == pytest.approx(yardstick.COPY_BYTES / seconds)
    assert found.record["kernel"] == "Triton 0.0"


def test_cases_are_copied_by_the_faster_way(monkeypatch):
    def by_kernel(source, destination):
        rightly(source, destination)

    use_kernel(monkeypatch, by_kernel)
    kernel = {"kernel in a graph": 1e-4, "kernel by calls": 1e-4}
    assert yardstick.measure(Machine(MEMCPY | kernel, monkeypatch)).copy is by_kernel
    kernel = {"kernel in a graph": 1.0, "kernel by calls": 1.0}
    assert (
        yardstick.measure(Machine(MEMCPY | kernel, monkeypatch)).copy
        is yardstick.memcpy
    )


def test_without_triton_memcpy_is_the_yardstick_and_the_report_says_so(monkeypatch):
    use_kernel(monkeypatch, None)
    found = yardstick.measure(Machine(MEMCPY, monkeypatch))
    assert found.record["bytes_per_second"] == pytest.approx(
        yardstick.COPY_BYTES / 4e-4
    )
    assert found.record["kernel"].startswith("missing: ModuleNotFoundError")
    report = {"environment": {}, "settings": {}, "copy": found.record}
    text = "\n".join(table.heading(report))
    assert "copy kernel: missing: ModuleNotFoundError" in text
    assert "memcpy in a graph" in text


def test_a_kernel_that_copies_wrongly_is_no_yardstick(monkeypatch):
    def wrongly(source, destination):
        destination[:-1] = source[:-1]

    use_kernel(monkeypatch, wrongly)
    found, why = yardstick.kernel(ones(), ones())
    assert found is None
    assert why == "missing: Triton's copy is wrong"


def test_without_graphs_only_calls_are_recorded(monkeypatch):
    use_kernel(monkeypatch, None)
    found = yardstick.measure(Machine(MEMCPY, monkeypatch, graphs=False))
    assert found.record["bytes_per_second"] == pytest.approx(
        yardstick.COPY_BYTES / 5e-4
    )
    assert "memcpy in a graph" not in found.record
