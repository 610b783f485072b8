"""Which TensorFlow is installed, and whether this build can run with it.

An op library works with the minor version of TensorFlow that it was compiled against;
with another one the dynamic linker fails on a mangled C++ name. The versions are
compared before anything is loaded, from the installed metadata alone, so that the user
reads which two versions disagree and what to type instead.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import sys
from pathlib import Path
from types import ModuleType

# If true, the norms run as plain TensorFlow ops and the op library is never loaded.
OPS_DISABLED = os.environ.get("FUSEDNORM_DISABLE", "") not in ("", "0")

# The distributions that contain the module `tensorflow`, most common first. Asking for
# each is fast, while `packages_distributions()` reads every installed package.
_DISTRIBUTIONS = (
    "tensorflow",
    "tensorflow-cpu",
    "tf-nightly",
    "tf-nightly-cpu",
    "tensorflow-cpu-aws",
    "tensorflow-aarch64",
    "tensorflow-rocm",
    "intel-tensorflow",
)


def build_info() -> ModuleType:
    """Returns `fusednorm._build_info`, which the build writes.

    Raises:
        ImportError: if the package was not built.
    """
    try:
        from fusednorm import _build_info
    except ImportError as error:
        raise ImportError(
            "fusednorm has not been built: its compiled libraries are missing from "
            f"{Path(__file__).parent}. In a source checkout, build and install it "
            "with:\n    pip install ."
        ) from error
    return _build_info


def tensorflow_version() -> str | None:
    """Returns the version of the installed TensorFlow, without importing it.

    Returns:
        The version, or `None` if TensorFlow is not installed.
    """
    if importlib.util.find_spec("tensorflow") is None:
        return None
    for name in _DISTRIBUTIONS:
        try:
            return importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    for name in importlib.metadata.packages_distributions().get("tensorflow", ()):
        return importlib.metadata.version(name)
    return None


def minor_version(version: str) -> str:
    """Returns the first two numbers of a version: "2.21" for "2.21.0rc1"."""
    return ".".join(version.split(".")[:2])


def check_tensorflow(wanted_by: str) -> None:
    """Checks that a TensorFlow this build can run with is installed.

    Args:
        wanted_by: What needs TensorFlow, for the error message.

    Raises:
        ImportError: if TensorFlow is missing, or of another minor version and the op
            library may be loaded.
    """
    built = build_info().TENSORFLOW_VERSION
    running = tensorflow_version()
    if OPS_DISABLED and running is not None:
        return
    if built is None:
        raise ImportError(
            f"{wanted_by} needs TensorFlow, and this fusednorm was built without it. "
            "Install TensorFlow, then rebuild fusednorm from its source checkout:\n"
            "    pip install --no-cache-dir --force-reinstall --no-deps ."
        )
    wanted = f'pip install "tensorflow=={minor_version(built)}.*"'
    if running is None:
        raise ImportError(
            f"{wanted_by} needs TensorFlow, which is not installed. Install the "
            f"version fusednorm was built against:\n    {wanted}"
        )
    if minor_version(running) != minor_version(built):
        raise ImportError(
            f"fusednorm was built against TensorFlow {built} and cannot run with "
            f"the installed TensorFlow {running}. Either install a matching "
            f"TensorFlow:\n    {wanted}\nor rebuild fusednorm against the installed "
            "one, in its source checkout:\n"
            "    pip install --no-cache-dir --force-reinstall --no-deps ."
        )


def running_as_command() -> bool:
    """Tells whether this process is `python -m fusednorm` or the `fusednorm` script.

    Both import the package before their first line runs. The command then imports
    TensorFlow by itself, so that it can also report a TensorFlow that does not fit, and
    can keep TensorFlow's start-up log off the screen.
    """
    program = sys.argv[0] if sys.argv else ""
    if program != "-m":  # sys.argv[0] is "-m" while `python -m` looks for its module.
        return Path(program).name == "fusednorm" and not Path(program).is_dir()
    arguments = sys.orig_argv
    if "-m" not in arguments:
        return "-mfusednorm" in arguments
    return arguments[arguments.index("-m") + 1 :][:1] == ["fusednorm"]
