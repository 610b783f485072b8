"""The yardstick on a GPU: how fast the device copies its own memory.

Two ways are measured in the same run, because either can be the slow one: memcpy from
device to device, and a kernel with accesses of 16 bytes. The yardstick is the faster
one, so that our share does not profit from a slow copy. Needs PyTorch.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from fusednorm.bench import timing
from fusednorm.bench.records import one_line

# Read plus written; far more than any L2 cache holds.
COPY_BYTES = 2**30
# copy_kernel.py copies elements of 4 bytes, and has accesses of 16 bytes if their
# number is a multiple of 16.
_ELEMENT_BYTES = 4
_ELEMENTS = 16

Copy = Callable[[Any, Any], Any]


@dataclass(frozen=True)
class Yardstick:
    """The speed of a copy.

    Attributes:
        record: What the report says: `bytes_per_second` of the faster way, `bytes`,
            every speed that was measured, and which kernel copied or why none did.
        copy: The faster way, a function of source and destination.
    """

    record: dict[str, Any]
    copy: Copy


def memcpy(source: Any, destination: Any) -> None:
    """Enqueues cudaMemcpyAsync, which is what copy_ calls for contiguous tensors."""
    destination.copy_(source)


def kernel(source: Any, destination: Any) -> tuple[Copy | None, str]:
    """Returns a copy kernel that has copied this pair rightly, and what it is.

    Without one it returns None, and why.
    """
    try:
        from fusednorm.bench import copy_kernel

        destination.zero_()
        copy_kernel.copy(source, destination)
        if not bool((source == destination).all()):
            return None, "missing: Triton's copy is wrong"
        return copy_kernel.copy, copy_kernel.NAME
    except Exception as error:  # A broken installation raises anything.
        return None, f"missing: {one_line(error)}"


def pairs_of(moved: int, count: int, device: Any) -> list[tuple[Any, Any]]:
    """Returns `count` pairs of source and destination.

    A copy of a pair moves `moved` bytes, read plus written, or a few more.
    """
    import torch

    unit = _ELEMENT_BYTES * _ELEMENTS
    size = _ELEMENTS * max(1, -(-moved // (2 * unit)))
    return [
        tuple(torch.ones(size, dtype=torch.int32, device=device) for _ in range(2))
        for _ in range(count)
    ]


def copying(copy: Copy, pairs: list[tuple[Any, Any]]) -> Callable[[int], None]:
    """Returns the call that copies pair i."""

    def call(i: int) -> None:
        copy(*pairs[i])

    return call


def measure(machine: Any) -> Yardstick:
    """Measures both ways in turn, in a CUDA graph and as plain calls."""
    pairs = pairs_of(COPY_BYTES, 2, machine.torch_device)
    ways = {"memcpy": memcpy}
    found, what = kernel(*pairs[0])
    if found is not None:
        ways["kernel"] = found
    tasks, way_of = [], {}
    for way, copy in ways.items():
        call = copying(copy, pairs)
        graph, plain = f"{way} in a graph", f"{way} by calls"
        tasks += [
            machine.kernel_task(graph, call, 2, 1e-3, COPY_BYTES),
            timing.Task(plain, call, 2, 1e-3),
        ]
        way_of |= {graph: copy, plain: copy}
    times = timing.measure(
        tasks, rounds=20, seconds=5.0, call_seconds=4e-3,
        synchronize=machine.synchronize,
    )  # fmt: skip
    # Where no graph could be captured, its task made plain calls.
    false_graphs = {
        task.key
        for task in tasks
        if task.key.endswith("in a graph") and task.method != "graph"
    }
    speeds = {
        name: COPY_BYTES / timing.quartiles(each)[1]
        for name, each in times.items()
        if name not in false_graphs
    }
    best = max(speeds, key=speeds.__getitem__)
    record = {"bytes_per_second": speeds[best], "bytes": COPY_BYTES, "kernel": what}
    return Yardstick(record | speeds, way_of[best])
