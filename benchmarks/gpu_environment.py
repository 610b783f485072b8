"""What a measurement must say of the machine and of the code, to be worth keeping."""

from __future__ import annotations

import datetime
import os
import platform
import shutil
import subprocess
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
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


def collect(given_commit: str | None = None) -> dict[str, Any]:
    """Returns all of that for the current CUDA device, by way of PyTorch."""
    import torch

    index = torch.cuda.current_device()
    properties = torch.cuda.get_device_properties(index)
    free, total = torch.cuda.mem_get_info()
    return {
        "date": now(),
        **commit(given_commit),
        "device": properties.name,
        "compute_capability": f"{properties.major}.{properties.minor}",
        "multiprocessors": properties.multi_processor_count,
        "l2_bytes": l2_bytes(properties),
        "memory_bytes": total,
        "free_memory_bytes": free,
        "nvidia_smi": query_gpu(index),
        "torch": torch.__version__,
        "cuda_runtime": torch.version.cuda,
        "nvcc": _last_line(output_of("nvcc", "--version")),
        "python": platform.python_version(),
        "host": platform.machine(),
    }


def l2_bytes(properties: Any) -> int:
    """Returns the size of the L2 cache; 50 MiB where PyTorch does not say."""
    return int(getattr(properties, "L2_cache_size", 0)) or 50 * 2**20


def _last_line(text: str | None) -> str | None:
    return text.splitlines()[-1] if text else None
