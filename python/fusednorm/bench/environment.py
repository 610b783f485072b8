"""What a measurement must say of the machine and of the code, to be worth keeping."""

from __future__ import annotations

import datetime
import importlib.metadata
import os
import platform
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

# Its checkout, if it lies in one.
ROOT = Path(__file__).resolve().parent
QUERY = {
    "name": "name",
    "driver": "driver_version",
    "memory": "memory.total",
    "sm_clock": "clocks.sm",
    "memory_clock": "clocks.mem",
    "max_sm_clock": "clocks.max.sm",
    "max_memory_clock": "clocks.max.mem",
    "application_clock": "clocks.applications.graphics",
    "power_limit": "power.limit",
    "temperature": "temperature.gpu",
    "ecc": "ecc.mode.current",
    "persistence": "persistence_mode",
    "mig": "mig.mode.current",
    "performance_state": "pstate",
}


def output_of(*command: str) -> str | None:
    """Returns what a command prints, or None if it fails or is not there."""
    if shutil.which(command[0]) is None:
        return None
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=20, cwd=ROOT, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def query_gpu(index: int = 0) -> dict[str, str | None]:
    """Returns what nvidia-smi says; a field that it does not know is None."""
    answers: dict[str, str | None] = {}
    together = output_of(
        "nvidia-smi", f"--id={index}", f"--query-gpu={','.join(QUERY.values())}",
        "--format=csv,noheader",
    )  # fmt: skip
    fields = together.splitlines()[0].split(", ") if together else []
    if len(fields) == len(QUERY):
        return dict(zip(QUERY, fields, strict=True))
    # One unknown field fails them all: ask one by one.
    for name, field in QUERY.items():
        answer = output_of(
            "nvidia-smi", f"--id={index}", f"--query-gpu={field}",
            "--format=csv,noheader",
        )  # fmt: skip
        answers[name] = answer.splitlines()[0] if answer else None
    return answers


def commit(given: str | None = None) -> dict[str, Any]:
    """Returns the commit and whether the tree differs from it.

    Args:
        given: The commit, where the tree is a copy without git; else that of the
            environment variable FUSEDNORM_COMMIT, else git's.
    """
    given = given or os.environ.get("FUSEDNORM_COMMIT")
    if given:
        return {"commit": given, "dirty": None, "from": "given"}
    head = output_of("git", "rev-parse", "HEAD")
    status = output_of("git", "status", "--porcelain")
    return {
        "commit": head,
        "dirty": None if head is None else bool(status),
        "from": "git" if head else "unknown",
    }


def now() -> str:
    """Returns the time in UTC."""
    return datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")


def threads_available() -> int:
    """Returns how many processors this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def cache_bytes() -> int:
    """Returns the size of the last cache; 32 MiB where the system does not say."""
    found = [0]
    for path in Path("/sys/devices/system/cpu/cpu0/cache").glob("index*/size"):
        match = re.fullmatch(r"(\d+)([KMG]?)", path.read_text().strip())
        if match:
            scale = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30}[match[2]]
            found.append(int(match[1]) * scale)
    return max(found) or 32 * 2**20


def cpu() -> dict[str, Any]:
    """Returns what the system says of the processor and of its memory."""
    return {
        "device": _field("/proc/cpuinfo", "model name") or platform.processor(),
        "processors": os.cpu_count(),
        "processors_available": threads_available(),
        "virtual": "hypervisor" in (_field("/proc/cpuinfo", "flags") or "").split(),
        "cache_bytes": cache_bytes(),
        "memory": _field("/proc/meminfo", "MemTotal"),
        "governor": _text("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
        "load_average": list(os.getloadavg()),
        "system": platform.platform(),
    }


def versions(*distributions: str) -> dict[str, str | None]:
    """Returns the versions of distributions; None of those that are not installed."""
    found: dict[str, str | None] = {"python": platform.python_version()}
    for name in distributions:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = None
    return found


def _text(path: str) -> str | None:
    try:
        return Path(path).read_text().strip()
    except OSError:
        return None


def _field(path: str, name: str) -> str | None:
    match = re.search(rf"^{name}\s*:\s*(.*)$", _text(path) or "", re.MULTILINE)
    return match[1] if match else None
