"""What `fusednorm info` says that should not be so."""

from __future__ import annotations

from typing import Any

from fusednorm._doctor.cases import Check
from fusednorm.info import has_code


def check(info: dict[str, Any]) -> Check:
    """Returns the problems; the rows are `info` itself."""
    found = Check()
    tensorflow, cuda = info["tensorflow"], info["cuda"]
    libraries = info["libraries"]
    if error := libraries["native_module"]["error"]:
        found.problems.append(f"The native module does not load: {error}")
    if tensorflow["built_against"] is None and tensorflow["error"] is not None:
        found.notes.append("A build without TensorFlow: only its kernels are checked.")
    else:
        found.problems += _of_tensorflow(info)
    if cuda["error"]:
        found.problems.append(f"CUDA does not work: {cuda['error']}")
    for device in cuda["devices"]:
        capability = str(device["compute_capability"])
        if not has_code(capability, cuda["architectures"]):
            found.problems.append(
                f"This build has neither machine code nor PTX for {device['name']} of "
                f"compute capability {capability}, only for "
                f"{', '.join(cuda['architectures'])}. Rebuild it with "
                f"FUSEDNORM_CUDA_ARCHITECTURES={capability.replace('.', '')}."
            )
    return found


def _of_tensorflow(info: dict[str, Any]) -> list[str]:
    tensorflow = info["tensorflow"]
    if error := tensorflow["error"]:
        return [f"TensorFlow cannot be used: {error}"]
    if error := info["libraries"]["op_library"]["error"]:
        return [f"The ops do not load: {error}"]
    if error := info["keras"]["error"]:
        return [f"Keras cannot be used: {error}"]
    found = []
    if (backend := info["keras"]["backend"]) != "tensorflow":
        found.append(f"The layers need Keras's TensorFlow backend, not {backend}.")
    present = {device["type"] for device in tensorflow["devices"]} & {"CPU", "GPU"}
    if "GPU" in present and info["cuda"]["version"] is None:
        found.append(
            "TensorFlow has a GPU and this build has no CUDA kernels: rebuild it where "
            "nvcc is, or the norms run on the CPU."
        )
        present.remove("GPU")
    found += [
        f"XLA has no kernels of ours for the {device}."
        for device in sorted(present - set(tensorflow["xla"]))
    ]
    return found
