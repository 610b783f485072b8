"""Counts the kernels that a call launches on a GPU, by the profilers of the frameworks.

Both read what CUPTI records of the device: a call of TensorFlow is counted by its own
profiler, which knows which kernels belong to streams, any other by PyTorch's.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

# How the profilers name copies and fills of memory, which are no kernels.
_MEMORY = ("memcpy", "memset")


def count(call: Callable[[], Any], wait: Callable[[], None], *, by: str) -> int:
    """Returns how many kernels a call launches; it has been called before.

    Args:
        call: What to count.
        wait: Waits for the device.
        by: "tensorflow" or "torch": whose profiler is used.
    """
    profiled = _by_tensorflow if by == "tensorflow" else _by_torch

    def finished() -> None:
        call()
        wait()

    wait()
    return len(kernels(profiled(finished)))


def kernels(names: Iterable[str]) -> list[str]:
    """Returns those names of what ran on a device that are kernels."""
    return [each for each in names if not each.lower().startswith(_MEMORY)]


def _by_torch(call: Callable[[], None]) -> list[str]:
    from torch.autograd import DeviceType
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CUDA]) as found:
        call()
    return [each.name for each in found.events() if each.device_type == DeviceType.CUDA]


def _by_tensorflow(call: Callable[[], None]) -> list[str]:
    import tensorflow as tf

    with tempfile.TemporaryDirectory() as folder:
        tf.profiler.experimental.start(folder)
        try:
            call()
        finally:
            tf.profiler.experimental.stop()
        (trace,) = Path(folder).rglob("*.xplane.pb")
        return of_trace(trace.read_bytes())


def of_trace(trace: bytes) -> list[str]:
    """Returns the names of what ran on the GPUs' streams in a trace of TensorFlow."""
    from tensorflow.tsl.profiler.protobuf import xplane_pb2

    return [
        plane.event_metadata[event.metadata_id].name
        for plane in xplane_pb2.XSpace.FromString(trace).planes
        if plane.name.startswith("/device:GPU")
        for line in plane.lines
        # Other lines show the same again, grouped by op or by step.
        if line.name.startswith("Stream")
        for event in line.events
    ]
