"""The device that is measured: how to wait for it, copy on it, and see its memory."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from fusednorm import _native
from fusednorm.bench import environment, memory


class Cpu:
    """This machine's processor, with a number of threads for everybody.

    To be made before TensorFlow and PyTorch are imported: they ask the environment.
    """

    is_gpu = False
    tensorflow_device = "/CPU:0"
    torch_device = "cpu"

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

    def peak_extra_bytes(self, call: Callable[[], Any]) -> int | None:
        """Returns by how much a call raises the memory in use; see memory.py."""
        return memory.peak_extra_bytes(call)

    def available_bytes(self) -> int:
        """Returns the memory that is left."""
        return memory.available_bytes()

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


class Gpu:
    """The first CUDA device, for TensorFlow and for PyTorch."""

    is_gpu = True
    tensorflow_device = "/GPU:0"
    torch_device = "cuda"
    keeps_freed_memory = True  # Both frameworks do.

    def __init__(self) -> None:
        """Checks that there is one.

        Raises:
            RuntimeError: there is none, or the build has no CUDA kernels.
        """
        devices = _native.cuda_devices()
        if not devices:
            raise RuntimeError(
                "--device gpu needs a CUDA device and a build with CUDA kernels; "
                "`fusednorm info` says what is there"
            )
        self.threads = environment.threads_available()
        self._device = devices[0]
        import tensorflow as tf
        import torch

        self._tf, self._torch = tf, torch
        for device in tf.config.list_physical_devices("GPU"):
            tf.config.experimental.set_memory_growth(device, True)
        properties = torch.cuda.get_device_properties(0)
        self.cache_bytes = int(getattr(properties, "L2_cache_size", 0)) or 50 * 2**20

    def environment(self) -> dict[str, Any]:
        """Returns what a report says of it."""
        return {
            **environment.cpu(),
            "device": self._torch.cuda.get_device_name(0),
            "device_properties": self._device,
            "nvidia_smi": environment.query_gpu(),
            "cache_bytes": self.cache_bytes,
            "threads": self.threads,
        }

    def synchronize(self) -> None:
        """Waits for everything."""
        self._torch.cuda.synchronize()
        self._tf.test.experimental.sync_devices()

    def peak_extra_bytes(self, call: Callable[[], Any]) -> int | None:
        """Returns by how much a call raises the memory that both frameworks hold."""
        config = self._tf.config.experimental
        self.synchronize()
        self._torch.cuda.reset_peak_memory_stats()
        config.reset_memory_stats("GPU:0")
        before = self._torch.cuda.memory_allocated()
        before += config.get_memory_info("GPU:0")["current"]
        results = call()
        self.synchronize()
        peak = self._torch.cuda.max_memory_allocated()
        peak += config.get_memory_info("GPU:0")["peak"]
        del results
        return peak - before

    def available_bytes(self) -> int:
        """Returns the memory that is left on the device."""
        return self._torch.cuda.mem_get_info()[0]

    def copies(self, moved: int, sets: int) -> Callable[[int], None]:
        """Returns a call that copies set i on the device: `moved` bytes of traffic."""
        size = max(1, moved // 2)
        pairs = [
            [
                self._torch.ones(size, dtype=self._torch.uint8, device="cuda")
                for _ in range(2)
            ]
            for _ in range(sets)
        ]

        def call(i: int) -> None:
            source, destination = pairs[i]
            destination.copy_(source)

        return call


Machine = Cpu | Gpu
