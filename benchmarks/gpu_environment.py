"""What a measurement must say of the machine and of the code, to be worth keeping."""

from __future__ import annotations

import platform
from typing import Any

from fusednorm.bench.environment import commit, now, output_of, query_gpu

__all__ = ["collect", "commit", "l2_bytes", "now", "query_gpu"]


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
