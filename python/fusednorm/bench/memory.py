"""How much memory a call takes, and how malloc is kept out of the measurements."""

from __future__ import annotations

import ctypes
import gc
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

_TRIM_THRESHOLD, _MMAP_MAX = -1, -4  # Of mallopt.
_LARGE = 2**31 - 1
_PROCESS = Path("/proc/self")


def keep_freed_memory() -> bool:
    """Makes malloc keep what is freed, for everybody in this process.

    By default glibc gives large blocks back at once, and the next call pays for the
    faults of every page of its result: as long as writing it takes. Returns whether
    malloc is one that can be told.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    return bool(mallopt(_MMAP_MAX, 0) and mallopt(_TRIM_THRESHOLD, _LARGE))


def available_bytes() -> int:
    """Returns the memory that is left on this machine."""
    try:
        text = Path("/proc/meminfo").read_text()
        return int(re.search(r"MemAvailable:\s+(\d+)", text)[1]) * 1024
    except (OSError, TypeError):
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def peak_extra_bytes(call: Callable[[], Any]) -> int | None:
    """Returns by how much a call raises the memory in use at its highest.

    Results count, what the call was given does not. It is what the process grows by,
    or what TensorFlow's allocator says, whichever is more: TensorFlow keeps a pool of
    its own, so the process need not grow. None where nobody says.
    """
    gc.collect()
    found = [_growth_of_process(call), _growth_in_tensorflow(call)]
    return max((each for each in found if each is not None), default=None)


def _growth_in_tensorflow(call: Callable[[], Any]) -> int | None:
    tf = sys.modules.get("tensorflow")
    if tf is None:
        return None
    statistics = tf.config.experimental
    try:
        statistics.reset_memory_stats("CPU:0")
        before = statistics.get_memory_info("CPU:0")["current"]
        results = call()
        after = statistics.get_memory_info("CPU:0")["peak"]
    except ValueError:  # Only TensorFlow's builds with oneDNN keep count.
        return None
    del results
    return max(0, after - before)


def _growth_of_process(call: Callable[[], Any]) -> int | None:
    try:
        ctypes.CDLL(None).malloc_trim(0)
        # Forgets the highest size so far.
        _PROCESS.joinpath("clear_refs").write_text("5")
        before = _status("VmRSS")
        results = call()
        after = _status("VmHWM")
    except (OSError, AttributeError, TypeError):
        return None
    del results
    return max(0, after - before)


def _status(field: str) -> int:
    text = _PROCESS.joinpath("status").read_text()
    return int(re.search(rf"{field}:\s+(\d+)", text)[1]) * 1024
