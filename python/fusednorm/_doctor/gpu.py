"""Whether GPU, driver, TensorFlow and this build fit together, in plain words."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from fusednorm._compat import minor_version
from fusednorm._doctor.cases import Check
from fusednorm._doctor.machine import Driver, Machine

# The oldest driver that serves all of a major version of CUDA, by NVIDIA's release
# notes of the toolkit.
OLDEST_DRIVERS = {11: "450.80.02", 12: "525.60.13", 13: "580.65.06"}


def check(info: dict[str, Any], machine: Machine) -> Check:
    """Returns what does not fit, by the report of `fusednorm info` and the machine."""
    found = Check()
    built = info["cuda"]["version"]
    if built is None:
        found.notes.append("A build without CUDA: it does not use a GPU.")
    elif machine.driver is not None:
        found.problems += _of_driver(machine.driver, built, machine.tensorflow_cuda)
        if not found.problems and info["tensorflow"]["error"] is None:
            found.problems += _of_tensorflow(info, machine, machine.driver)
        found.notes += _notes(machine, machine.driver, built)
    elif machine.on_bus:
        found.problems.append(
            f"There is an NVIDIA GPU on the PCI bus ({', '.join(machine.on_bus)}) and "
            "no driver for it: libcuda.so.1 is not found. Install "
            f"{_oldest_driver(built)}; a container must be started with access to the "
            "GPU (docker run --gpus all)."
        )
    else:
        found.notes.append("There is no NVIDIA GPU here.")
    return found


def _of_driver(driver: Driver, built: str, tensorflow: str | None) -> Iterator[str]:
    if driver.error:
        yield (
            f"{_name(driver)} does not start: {driver.error}. After an update of the "
            "driver a restart of the machine makes its two halves, the kernel's module "
            "and libcuda.so.1, the same version again."
        )
        return
    served = f"{_name(driver)} serves CUDA up to {driver.cuda[0]}.{driver.cuda[1]}"
    if _major(built) > driver.cuda[0]:
        yield (
            f"{served}, and this build of fusednorm has the runtime of CUDA {built}: "
            f"its kernels do not run. Install {_oldest_driver(built)}, or rebuild "
            f"fusednorm with the nvcc of CUDA {driver.cuda[0]}."
        )
    if tensorflow is not None and _major(tensorflow) > driver.cuda[0]:
        yield (
            f"{served}, and TensorFlow is built for CUDA {tensorflow}: it does not "
            f"find the GPU. Install {_oldest_driver(tensorflow)}."
        )


def _of_tensorflow(
    info: dict[str, Any], machine: Machine, driver: Driver
) -> Iterator[str]:
    minor = minor_version(info["tensorflow"]["running"])
    install = f'pip install "tensorflow[and-cuda]=={minor}.*"'
    gpus = [each for each in info["tensorflow"]["devices"] if each["type"] == "GPU"]
    if gpus and not machine.libdevice:
        yield (
            "XLA does not find libdevice.10.bc, NVIDIA's device functions: "
            "jit_compile=True fails on the GPU. Name the folder of a CUDA toolkit in "
            "the environment, XLA_FLAGS=--xla_gpu_cuda_data_dir=/usr/local/cuda, or "
            f"install it with: {install}"
        )
    if gpus or not driver.gpus:
        return
    unseen = f"The driver has {_gpus(driver)}, and TensorFlow"
    if machine.tensorflow_cuda is None:
        yield f"{unseen} is built without CUDA. Install the one with it: {install}"
    elif machine.missing_packages:
        yield (
            f"{unseen} sees none, for its CUDA libraries are not installed "
            f"({', '.join(machine.missing_packages)}). Install them with: {install}"
        )
    else:
        yield (
            f"{unseen} sees none, although its CUDA libraries are installed. Its log "
            'says why: TF_CPP_MIN_LOG_LEVEL=0 python -c "import tensorflow as tf; '
            'tf.config.list_physical_devices()"'
        )


def _notes(machine: Machine, driver: Driver, built: str) -> Iterator[str]:
    tensorflow = machine.tensorflow_cuda
    yield (
        f"{_name(driver)} has {_gpus(driver)} and serves CUDA up to "
        f"{driver.cuda[0]}.{driver.cuda[1]}; fusednorm is built with CUDA "
        f"{built}, TensorFlow {f'with {tensorflow}' if tensorflow else 'without'}."
    )
    if tensorflow and _major(tensorflow) != _major(built) <= driver.cuda[0]:
        yield (
            "TensorFlow and fusednorm are built with different major versions of CUDA. "
            "They run together: fusednorm links its own runtime."
        )


def _gpus(driver: Driver) -> str:
    return f"{driver.gpus} GPU{'s' * (driver.gpus != 1)}"


def _name(driver: Driver) -> str:
    return "NVIDIA's driver" + (f" {driver.version}" if driver.version else "")


def _major(version: str) -> int:
    return int(version.split(".")[0])


def _oldest_driver(cuda: str) -> str:
    """Returns which driver a version of CUDA takes, in words."""
    oldest = OLDEST_DRIVERS.get(_major(cuda))
    return f"driver {oldest} or newer" if oldest else f"a driver for CUDA {cuda}"
