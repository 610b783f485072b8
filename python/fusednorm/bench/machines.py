"""The device that is measured: how to wait for it, copy on it, and see its memory."""

from __future__ import annotations

import gc
import importlib
import os
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from fusednorm import _native
from fusednorm.bench import cuda_graphs, environment, memory, timing, yardstick
from fusednorm.info import tuned_in_use

# Each way: so that none of it stays in a cache.
COPY_CACHES = 4


class Cpu:
    """This machine's processor, with a number of threads for everybody.

    To be made before TensorFlow and PyTorch are imported: they ask the environment.
    """

    is_gpu = False
    tensorflow_device = "/CPU:0"
    torch_device = "cpu"
    # Where the tensors of a case are made: in NumPy's memory.
    data_device = None

    def __init__(self, threads: int) -> None:
        self.threads = threads
        self.cache_bytes = environment.cache_bytes()
        # OpenMP and MKL are PyTorch's; the limit of XLA is TensorFlow's.
        for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "TF_NUM_INTRAOP_THREADS"):
            os.environ[name] = str(threads)
        os.environ["TF_NUM_INTEROP_THREADS"] = str(threads)
        self.keeps_freed_memory = memory.keep_freed_memory()
        self._pool = ThreadPoolExecutor(threads)

    def environment(self) -> dict[str, Any]:
        """Returns what a report says of it."""
        return {
            **environment.cpu(),
            "threads": self.threads,
            "instruction_set": _native.isa(),
        }

    def synchronize(self) -> None:
        """Does nothing: calls return when they are done."""

    def release(self) -> None:
        """Gives the memory of a case back."""
        gc.collect()

    def peak_extra_bytes(self, call: Callable[[], Any]) -> int | None:
        """Returns by how much a call raises the memory in use; see memory.py."""
        return memory.peak_extra_bytes(call)

    def available_bytes(self) -> int:
        """Returns the memory that is left."""
        return memory.available_bytes()

    def kernel_task(
        self, key: Any, call: Callable[[int], Any], sets: int, estimate: float, _: int
    ) -> timing.Task:
        """Returns how a call of kernels is timed here."""
        return timing.Task(key, call, sets, estimate)

    def copies(self, moved: int, sets: int) -> Callable[[int], None]:
        """Returns a call that copies set i with all threads: `moved` bytes move."""
        size = max(1, moved // 2)
        pairs = [
            (np.ones(size, np.uint8), np.zeros(size, np.uint8)) for _ in range(sets)
        ]
        bounds = np.linspace(0, size, self.threads + 1).astype(int)

        def part(task: tuple[int, int]) -> None:
            i, thread = task
            piece = slice(bounds[thread], bounds[thread + 1])
            source, destination = pairs[i]
            destination[piece] = source[piece]

        def call(i: int) -> None:
            if self.threads == 1:
                part((i, 0))
            else:
                for _ in self._pool.map(part, [(i, n) for n in range(self.threads)]):
                    pass

        return call

    def measure_copy(self) -> dict[str, Any]:
        """Returns `bytes_per_second` of a copy, and the `bytes` that it moved."""
        return measured_copy(self)


class Gpu:
    """The first CUDA device, for TensorFlow and for PyTorch, or for one of them.

    Kernels are timed in PyTorch's CUDA graphs. Where there is no PyTorch, only what
    TensorFlow calls is timed.
    """

    is_gpu = True
    tensorflow_device = "/GPU:0"
    torch_device = "cuda"
    keeps_freed_memory = True  # Both frameworks do.

    def __init__(self, *, tensorflow: bool) -> None:
        """Checks that there is one.

        Args:
            tensorflow: Whether TensorFlow is used, if it is there.

        Raises:
            RuntimeError: there is none, the build has no CUDA kernels, or there is no
                framework to call them from.
        """
        devices = _native.cuda.devices() if _native.cuda_devices() else []
        if not devices:
            raise RuntimeError(
                "--device gpu needs a CUDA device and a build with CUDA kernels; "
                "`fusednorm info` says what is there"
            )
        self.threads = environment.threads_available()
        # As `_native.plan` takes it.
        self.device = devices[0]
        self.cache_bytes = self.device["l2_bytes"]
        self._copy: yardstick.Copy | None = None
        self._tf = _imported("tensorflow") if tensorflow else None
        self._torch = _imported("torch")
        if self._torch is not None and not self._torch.cuda.is_available():
            self._torch = None
        if self._torch is None and self._tf is None:
            raise RuntimeError(
                "--device gpu needs PyTorch with CUDA for kernels, and TensorFlow or "
                "PyTorch for all else; neither can be used here"
            )
        self.data_device = None if self._torch is None else self.torch_device
        if self._tf is not None:
            for device in self._tf.config.list_physical_devices("GPU"):
                self._tf.config.experimental.set_memory_growth(device, True)
        if self._torch is not None:
            # CUDA graphs cannot be captured on the default stream, and autograd runs
            # a backward pass on the stream of its forward pass.
            self._torch.cuda.set_stream(self._torch.cuda.Stream())

    def environment(self) -> dict[str, Any]:
        """Returns what a report says of it."""
        nvcc = environment.output_of("nvcc", "--version")
        return {
            **environment.cpu(),
            "device": self.device["name"],
            "device_properties": self.device,
            "nvidia_smi": environment.query_gpu(),
            "cache_bytes": self.cache_bytes,
            "threads": self.threads,
            "cuda_runtime": getattr(self._torch, "version", None)
            and self._torch.version.cuda,
            "nvcc": nvcc.splitlines()[-1] if nvcc else None,
            "tuned": tuned_in_use(),
        }

    def synchronize(self) -> None:
        """Waits for everything."""
        if self._torch is not None:
            self._torch.cuda.synchronize()
        if self._tf is not None:
            self._tf.test.experimental.sync_devices()

    def release(self) -> None:
        """Gives the memory of a case back."""
        gc.collect()
        if self._torch is not None:
            self._torch.cuda.empty_cache()

    def _allocated(self, which: str) -> int:
        """Returns the "current" or the "peak" bytes that both frameworks hold."""
        count = 0
        if self._torch is not None:
            cuda = self._torch.cuda
            peak = cuda.max_memory_allocated if which == "peak" else None
            count += (peak or cuda.memory_allocated)()
        if self._tf is not None:
            count += self._tf.config.experimental.get_memory_info("GPU:0")[which]
        return count

    def peak_extra_bytes(self, call: Callable[[], Any]) -> int | None:
        """Returns by how much a call raises the memory that both frameworks hold."""
        self.synchronize()
        if self._torch is not None:
            self._torch.cuda.reset_peak_memory_stats()
        if self._tf is not None:
            self._tf.config.experimental.reset_memory_stats("GPU:0")
        before = self._allocated("current")
        results = call()
        self.synchronize()
        peak = self._allocated("peak")
        del results
        return peak - before

    def available_bytes(self) -> int:
        """Returns the memory that is left on the device."""
        if self._torch is not None:
            return self._torch.cuda.mem_get_info()[0]
        return self.device["memory_bytes"] - self._allocated("current")

    def kernel_task(
        self,
        key: Any,
        call: Callable[[int], Any],
        sets: int,
        estimate: float,
        moved: int,
    ) -> timing.Task:
        """Returns how a call of kernels, which moves `moved` bytes, is timed here."""
        if self._torch is None:
            return timing.Task(key, call, sets, estimate)
        return cuda_graphs.GraphTask(key, call, sets, estimate, moved)

    def copies(self, moved: int, sets: int) -> Callable[[int], Any]:
        """Returns a call that copies set i on the device: `moved` bytes of traffic."""
        if self._torch is None:
            tf = self._tf
            with tf.device(self.tensorflow_device):
                tensors = [tf.ones(max(1, moved // 8)) for _ in range(sets)]
            return lambda i: tf.raw_ops.DeepCopy(x=tensors[i])
        pairs = yardstick.pairs_of(moved, sets, self.torch_device)
        return yardstick.copying(self._copy or yardstick.memcpy, pairs)

    def measure_copy(self) -> dict[str, Any]:
        """Returns `bytes_per_second` of the faster copy, and all that was measured.

        From then on `copies` goes the faster way.
        """
        if self._torch is None:
            why = "missing: no PyTorch; the copy is TensorFlow's, by calls"
            return {**measured_copy(self), "kernel": why}
        found = yardstick.measure(self)
        self.release()
        self._copy = self._copy or found.copy
        return found.record


Machine = Cpu | Gpu


def measured_copy(machine: Machine) -> dict[str, Any]:
    """Returns `bytes_per_second` of the machine's copy, and the `bytes` it moved."""
    moved = 2 * COPY_CACHES * machine.cache_bytes
    task = timing.Task("copy", machine.copies(moved, 2), 2, 0.01)
    times = timing.measure(
        [task], rounds=15, seconds=5, call_seconds=0.02,
        synchronize=machine.synchronize,
    )["copy"]  # fmt: skip
    return {"bytes": moved, "bytes_per_second": moved / timing.quartiles(times)[1]}


def folder_name(device: str, threads: int | None = None) -> str:
    """Returns the name of the folder of a machine's results: "nvidia-h200".

    Args:
        device: As the system names it.
        threads: Of a CPU, which is another machine with another number of them.
    """
    text = device if threads is None else f"{device} {threads} threads"
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


def _imported(module: str) -> Any:
    """Returns a module, or None where it cannot be imported."""
    try:
        return importlib.import_module(module)
    except Exception:  # A broken installation raises anything.
        return None
