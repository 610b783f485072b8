"""How far a run is, how long it still takes, and what there is time for.

tqdm, rich and Keras's Progbar estimate what is left from the mean of the steps so far.
Here cases differ widely and each has an estimate, which also decides what fits in the
budget. They could only draw the bar, a dozen lines here, and a build without TensorFlow
has none of them.
"""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Callable, Sequence


class Schedule:
    """Learns from what is done how long the rest takes.

    Attributes:
        scale: How much longer things take than estimated, as seen so far.
    """

    # As if this many seconds had gone as estimated: the first case also starts things.
    _TRUSTED = 10.0

    def __init__(self, estimates: Sequence[float], budget: float | None = None) -> None:
        """Starts the clock.

        Args:
            estimates: Seconds of each thing to do.
            budget: Seconds for everything; None is no limit.
        """
        self._estimates = list(estimates)
        self._budget = budget
        self._begin = time.perf_counter()
        self._expected = self._taken = self._TRUSTED
        self.scale = 1.0

    def elapsed(self) -> float:
        """Returns seconds since the start."""
        return time.perf_counter() - self._begin

    def left(self, number: int) -> float:
        """Returns about how many seconds the things from `number` on still take."""
        return self.scale * sum(self._estimates[number:])

    def fits(self, number: int) -> bool:
        """Returns whether there is time for thing `number`."""
        if self._budget is None:
            return True
        return self.elapsed() + self.scale * self._estimates[number] <= self._budget

    def took(self, number: int, seconds: float) -> None:
        """Learns from a thing that is done."""
        self._expected += self._estimates[number]
        self._taken += seconds
        self.scale = min(5.0, max(0.02, self._taken / self._expected))


def clock(seconds: float) -> str:
    """Returns seconds as 1:05."""
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"


class Progress:
    """A bar on a terminal, a line for each thing elsewhere."""

    def __init__(self, write: Callable[[str], object] = sys.stderr.write) -> None:
        self._write = write
        self._live = sys.stderr.isatty()

    def __call__(self, schedule: Schedule, done: int, total: int, label: str) -> None:
        """Shows that `done` of `total` things are done, and what comes now."""
        times = clock(schedule.elapsed())
        if done < total:
            times += f", about {clock(schedule.left(done))} left"
        line = f"{done}/{total} {times}: {label}"
        if not self._live:
            self._write(f"[{line}]\n")
            return
        width = 24
        full = width * done // max(1, total)
        line = f"[{'#' * full}{'.' * (width - full)}] {line}"
        self._write(f"\r\033[K{line[: shutil.get_terminal_size().columns - 1]}")
        sys.stderr.flush()

    def close(self) -> None:
        """Leaves the line of the bar."""
        if self._live:
            self._write("\n")
