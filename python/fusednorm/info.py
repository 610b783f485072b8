"""What `fusednorm info` reports: this build, and the machine it runs on.

Every part is looked at on its own, so that what is broken shows up as a line of
the report, beside all that is not.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import platform
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

from fusednorm import _compat


def collect() -> dict[str, Any]:
    """Returns the report as plain data, as `fusednorm info --json` prints it."""
    build = _compat.build_info()
    native, native_error = _attempt(lambda: _import("fusednorm._native"))
    tensorflow, library, keras = _tensorflow_stack()
    cuda_devices, cuda_error = _attempt(lambda: native.cuda_devices() if native else [])
    return {
        "fusednorm": {
            "version": build.VERSION,
            "compiler": build.COMPILER,
            "build_type": build.BUILD_TYPE,
            "python": platform.python_version(),
            "platform": platform.platform(),
        },
        "tensorflow": {"built_against": build.TENSORFLOW_VERSION, **tensorflow},
        "keras": keras,
        "cpu": {
            "instruction_set": native.isa() if native else None,
            "available": list(native.isas()) if native else [],
            "FUSEDNORM_ISA": os.environ.get("FUSEDNORM_ISA"),
        },
        "cuda": {
            "version": build.CUDA_VERSION,
            "architectures": list(build.CUDA_ARCHITECTURES),
            "devices": cuda_devices or [],
            "error": cuda_error,
            "tuned": tuned_in_use() if native else None,
        },
        "libraries": {
            "package": str(Path(_compat.__file__).parent),
            "op_library": library,
            "native_module": {
                "path": getattr(native, "__file__", None),
                "error": native_error,
            },
        },
    }


def tuned_in_use() -> dict[str, Any]:
    """Returns which table of tuned plans launches of CUDA kernels obey.

    Returns:
        path of the file, None where FUSEDNORM_TUNED is empty; entries, how many
        problems it has, 0 also where there is no such file; error, why it is not used,
        or None.
    """
    return _import("fusednorm._native").tuned_table()


def _import(name: str) -> ModuleType:
    return importlib.import_module(name)


def _attempt(function: Callable[[], Any]) -> tuple[Any, str | None]:
    """Returns the result and no error, or no result and the error as text."""
    try:
        return function(), None
    # The report goes on whatever a broken installation raises.
    except Exception as error:
        return None, f"{type(error).__name__}: {error}"


@contextlib.contextmanager
def quiet_standard_error() -> Iterator[None]:
    """Sends what C++ code writes to standard error nowhere.

    TensorFlow logs its start-up from C++, before any of its log levels apply.
    """
    sys.stderr.flush()
    kept = os.dup(2)
    with open(os.devnull, "wb") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def _tensorflow_stack() -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """Returns what is to say of TensorFlow, of the op library and of Keras."""
    tensorflow = {"running": _compat.tensorflow_version(), "devices": [], "xla": []}
    library = {"path": None, "error": None}
    keras = {"running": None, "backend": None, "error": None}

    _, tensorflow["error"] = _attempt(lambda: _compat.check_tensorflow("This report"))
    if tensorflow["error"] is not None:
        library["error"] = "not tried, see TensorFlow"
        keras["error"] = "not tried, see TensorFlow"
        return tensorflow, library, keras

    with quiet_standard_error():
        devices, tensorflow["error"] = _attempt(_tensorflow_devices)
        tensorflow["devices"] = devices or []
        loader, library["error"] = _attempt(lambda: _import("fusednorm._library"))
        if loader is not None:
            library["path"] = str(loader.library_path())
            xla, library["error"] = _attempt(loader.xla_devices)
            tensorflow["xla"] = sorted(xla or [])
        module, keras["error"] = _attempt(lambda: _import("fusednorm._keras").keras)
        if module is not None:
            keras["running"] = module.__version__
            keras["backend"] = module.backend.backend()
    return tensorflow, library, keras


def _tensorflow_devices() -> list[dict[str, Any]]:
    import tensorflow as tf

    devices = []
    for device in tf.config.list_physical_devices():
        details, _ = _attempt(
            lambda device=device: tf.config.experimental.get_device_details(device)
        )
        name = (details or {}).get("device_name")
        devices.append({"name": device.name, "type": device.device_type, "model": name})
    return devices


def render(report: dict[str, Any]) -> str:
    """Returns the report as aligned text."""
    build, tensorflow, keras = (
        report[key] for key in ("fusednorm", "tensorflow", "keras")
    )
    cpu, cuda, libraries = (report[key] for key in ("cpu", "cuda", "libraries"))
    lines = [
        (
            "fusednorm",
            f"{build['version']} ({build['compiler']}, {build['build_type']})",
        ),
        ("TensorFlow", _tensorflow(tensorflow)),
        ("Keras", _keras(keras)),
        ("Python", build["python"]),
        ("Platform", build["platform"]),
        ("Instruction set", _instruction_set(cpu)),
        ("CUDA", _cuda(cuda)),
        *(
            ("  device", _cuda_device(device, cuda["architectures"]))
            for device in cuda["devices"]
        ),
        ("Tuned plans", _tuned(cuda["tuned"])),
        ("TensorFlow devices", "" if tensorflow["devices"] else "none"),
        *(
            (f"  {device['type']}", _present(device["name"], device["model"], "  "))
            for device in tensorflow["devices"]
        ),
        ("XLA kernels", ", ".join(tensorflow["xla"]) or "none"),
        ("Package", libraries["package"]),
        ("Op library", _present(*libraries["op_library"].values())),
        ("Native module", _present(*libraries["native_module"].values())),
    ]
    width = max(len(label) for label, _ in lines) + 2
    indent = "\n" + " " * width
    return "\n".join(
        f"{label:<{width}}{text.replace(chr(10), indent)}".rstrip()
        for label, text in lines
    )


def _present(first: str | None, second: str | None, separator: str = "\n") -> str:
    """Returns those of two texts that are there."""
    return separator.join(text for text in (first, second) if text)


def _tensorflow(tensorflow: dict[str, Any]) -> str:
    text = (
        f"{tensorflow['running'] or 'not installed'} "
        f"(built against {tensorflow['built_against'] or 'none'})"
    )
    return _present(text, tensorflow["running"] and tensorflow["error"])


def _keras(keras: dict[str, Any]) -> str:
    if keras["error"]:
        return keras["error"]
    return f"{keras['running']} (backend {keras['backend']})"


def _instruction_set(cpu: dict[str, Any]) -> str:
    if cpu["instruction_set"] is None:
        return "unknown, see native module"
    forced = cpu["FUSEDNORM_ISA"]
    return (
        f"{cpu['instruction_set']} (usable here: {', '.join(cpu['available'])}"
        f"{f'; FUSEDNORM_ISA={forced}' if forced else ''})"
    )


def _cuda(cuda: dict[str, Any]) -> str:
    if cuda["version"] is None:
        return "not built, CPU only"
    text = f"built with {cuda['version']} for {', '.join(cuda['architectures'])}"
    if not cuda["devices"]:
        text += "; no device found"
    return _present(text, cuda["error"])


def _tuned(table: dict[str, Any] | None) -> str:
    if table is None:
        return "unknown, see native module"
    if table["error"]:
        return f"none: {table['error']}"
    if table["path"] is None:
        return "switched off, FUSEDNORM_TUNED is empty"
    return f"{table['entries'] or 'none'} in {table['path']}"


def has_code(capability: str, architectures: list[str]) -> bool:
    """Returns whether code for these architectures runs on the compute capability.

    Machine code does on the same major version from its minor one on; the PTX of the
    newest architecture on everything later.
    """
    major, minor = (int(part) for part in capability.split("."))
    built = [divmod(int(name), 10) for name in architectures]
    return any(major == m and minor >= n for m, n in built) or (
        bool(built) and (major, minor) >= max(built)
    )


def _cuda_device(device: dict[str, Any], architectures: list[str]) -> str:
    capability = str(device["compute_capability"])
    missing = "" if has_code(capability, architectures) else "; no code for it built"
    return (
        f"{device['name']}, compute capability {device['compute_capability']}, "
        f"{device['memory_bytes'] / 2**30:.0f} GiB, "
        f"{device['multiprocessors']} multiprocessors{missing}"
    )
