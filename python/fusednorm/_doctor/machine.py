"""Facts of this machine that decide whether TensorFlow and our kernels find its GPU.

Only facts: gpu.py says which of them do not fit together. None of this needs a build
with CUDA, for it is what explains why such a build finds no GPU.
"""

from __future__ import annotations

import ctypes
import importlib.metadata
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

NVIDIA = "0x10de"
DISPLAY = "0x03"  # The PCI class of everything that can draw, and of GPUs that do not.
NO_DEVICE = 100  # CUDA_ERROR_NO_DEVICE


@dataclass(frozen=True)
class Driver:
    """NVIDIA's driver.

    Attributes:
        cuda: The newest CUDA that it serves, (12, 4).
        gpus: How many GPUs it lets this process use.
        error: Why it does not start, or None.
        version: Its own version, "550.54.15"; None where the kernel does not tell.
    """

    cuda: tuple[int, int]
    gpus: int = 0
    error: str | None = None
    version: str | None = None


@dataclass(frozen=True)
class Machine:
    """What a GPU needs, as far as it is here.

    Attributes:
        on_bus: The PCI addresses of NVIDIA's GPUs.
        driver: The driver; None where there is none.
        tensorflow_cuda: The CUDA version that TensorFlow is built for; None where it
            is built without CUDA or cannot be imported.
        missing_packages: Packages of `tensorflow[and-cuda]` that are not installed.
        libdevice: Whether XLA finds NVIDIA's library of device functions.
    """

    on_bus: tuple[str, ...] = ()
    driver: Driver | None = None
    tensorflow_cuda: str | None = None
    missing_packages: tuple[str, ...] = ()
    libdevice: bool = True


def look(info: dict[str, Any]) -> Machine:
    """Returns the facts of this machine, beside the report of `fusednorm info`."""
    if info["tensorflow"]["error"] is not None:
        return Machine(on_bus=gpus_on_bus(), driver=driver())
    import tensorflow as tf

    flags = os.environ.get("XLA_FLAGS", "")
    return Machine(
        on_bus=gpus_on_bus(),
        driver=driver(),
        tensorflow_cuda=tf.sysconfig.get_build_info().get("cuda_version"),
        missing_packages=missing_packages(_requirements()),
        libdevice=any(
            (root / "nvvm" / "libdevice" / "libdevice.10.bc").exists()
            for root in cuda_roots(flags, Path(tf.__file__).parent)
        ),
    )


def gpus_on_bus(devices: Path = Path("/sys/bus/pci/devices")) -> tuple[str, ...]:
    """Returns the PCI addresses of NVIDIA's GPUs, whether or not a driver has them."""
    return tuple(
        sorted(
            device.name
            for device in devices.glob("*")
            if _read(device / "vendor").strip() == NVIDIA
            and _read(device / "class").startswith(DISPLAY)
        )
    )


def driver(
    load: Callable[[str], Any] = ctypes.CDLL,
    kernel_module: Path = Path("/proc/driver/nvidia/version"),
) -> Driver | None:
    """Returns NVIDIA's driver, or None where its library is not found."""
    try:
        library = load("libcuda.so.1")
    except OSError:
        return None
    number = ctypes.c_int(0)
    library.cuDriverGetVersion(ctypes.byref(number))
    cuda = (number.value // 1000, number.value % 1000 // 10)
    found = re.search(r"\d{3,}(\.\d+)+", _read(kernel_module))
    version = found[0] if found else None
    status = library.cuInit(0)
    if status == NO_DEVICE:
        return Driver(cuda, version=version)
    if status:
        text = ctypes.c_char_p()
        library.cuGetErrorString(status, ctypes.byref(text))
        error = f"cuInit fails with {status}: {(text.value or b'unknown').decode()}"
        return Driver(cuda, error=error, version=version)
    count = ctypes.c_int(0)
    library.cuDeviceGetCount(ctypes.byref(count))
    return Driver(cuda, gpus=count.value, version=version)


def missing_packages(requirements: Iterable[str]) -> tuple[str, ...]:
    """Returns those of a package's requirements for CUDA that are not installed."""
    names = [
        re.match(r"[\w.-]+", each)[0]
        for each in requirements
        if re.search(r"""extra\s*==\s*["']and-cuda["']""", each)
    ]
    return tuple(name for name in names if not _is_installed(name))


def cuda_roots(flags: str, tensorflow: Path) -> Iterator[Path]:
    """Yields the folders in which XLA looks for a CUDA toolkit.

    Args:
        flags: The environment's XLA_FLAGS.
        tensorflow: The folder of TensorFlow's package.
    """
    if named := re.search(r"--xla_gpu_cuda_data_dir=(\S+)", flags):
        yield Path(named[1])
    yield Path("/usr/local/cuda")
    yield Path("/opt/cuda")
    yield tensorflow.parent / "nvidia" / "cuda_nvcc"
    yield tensorflow / "cuda"
    yield Path(sys.prefix)
    yield Path()


def _read(path: Path) -> str:
    """Returns the text of a file of the system, or nothing."""
    try:
        return path.read_text()
    except OSError:
        return ""


def _requirements() -> list[str]:
    """Returns the requirements of the installed TensorFlow."""
    try:
        return importlib.metadata.requires("tensorflow") or []
    except importlib.metadata.PackageNotFoundError:
        return []


def _is_installed(name: str) -> bool:
    try:
        importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True
