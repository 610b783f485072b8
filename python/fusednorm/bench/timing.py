"""Times calls fairly: past the cache, in turn, round after round.

What is measured in the same round meets the same clocks, temperature and neighbours;
who comes after whom changes from round to round. The figure is the median of rounds.
"""

from __future__ import annotations

import gc
import math
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

MOST_SETS = 256
# Threads of others go on spinning for a while after their work is done.
SETTLE_SECONDS = 0.003
# Shorter calls wake their own threads with one call that is not timed.
WAKE_BELOW_SECONDS = 0.005
MOST_CALLS = 2000
# Of so few sets, one alone fills the cache.
FEW_SETS = 2

T = TypeVar("T")


def number_of_sets(set_bytes: int, cache_bytes: int) -> int:
    """Returns how many sets of buffers exceed twice the last cache.

    A set that is far larger than the cache leaves nothing of its beginning there.
    """
    if set_bytes >= 8 * cache_bytes:
        return 1
    return min(MOST_SETS, max(2, math.ceil(2 * cache_bytes / max(1, set_bytes))))


def past_the_cache(set_bytes: int, cache_bytes: int) -> bool:
    """Returns whether so many sets really exceed twice the last cache."""
    count = number_of_sets(set_bytes, cache_bytes)
    return count * set_bytes >= 2 * cache_bytes


def in_turn(
    items: Sequence[T], *, rounds: int, seconds: float, fewest_rounds: int
) -> Iterator[tuple[int, list[T]]]:
    """Yields the number of each round and the items in its order.

    Round -1 warms up. Everyone follows everyone else in turn. Stops after `rounds`, or
    after `seconds` if there were `fewest_rounds` by then.
    """
    begin = time.perf_counter()
    for number in range(-1, rounds):
        shift = number % len(items)
        yield number, [*items[shift:], *items[:shift]]
        if number == -1:
            continue
        if time.perf_counter() - begin > seconds and number + 1 >= fewest_rounds:
            return


def quartiles(values: Sequence[float]) -> tuple[float, float, float]:
    """Returns the lower quartile, the median and the upper quartile."""
    if len(values) < 2:
        return (values[0],) * 3
    return tuple(statistics.quantiles(values, n=4, method="inclusive"))


def summary(times: Sequence[float]) -> dict[str, Any]:
    """Returns median and quartiles in microseconds."""
    lower, median, upper = quartiles(times)
    return {
        "median_us": median * 1e6,
        "quartiles_us": [lower * 1e6, upper * 1e6],
        "rounds": len(times),
    }


class Ring:
    """Goes around sets, and keeps results until their set comes round again.

    So new ones do not land in memory that is still in the cache. Tasks of one
    measurement share a ring: memory that one has let go is there for the next, and has
    been written before, so that nobody's time is that of the faults of its pages.
    """

    def __init__(self, sets: int) -> None:
        self._kept: list[Any] = [None] * sets
        self._next = 0

    def call(self, function: Callable[[int], Any]) -> None:
        """Calls a function for the next set."""
        i = self._next
        self._kept[i] = None
        self._kept[i] = function(i)
        self._next = (i + 1) % len(self._kept)

    def release(self) -> None:
        """Lets the results go."""
        self._kept = [None] * len(self._kept)


@dataclass
class Task:
    """One thing to time: somebody's pass over rotating sets, or over one.

    Attributes:
        key: What it is; the caller's.
        call: Works on set i and returns the results.
        sets: How many sets there are to go around.
        estimate: Seconds of a call, more or less.
        waits: Whether every call is waited for: the time from the call to the end.
        calls: How many calls are timed together.
    """

    method = "calls"

    key: Any
    call: Callable[[int], Any]
    sets: int
    estimate: float
    waits: bool = False
    calls: int = 1
    ring: Ring = field(init=False)

    def __post_init__(self) -> None:
        """Gives the task a ring of its own, until it is measured with others."""
        self.ring = Ring(self.sets)

    def prepare(self, call_seconds: float) -> None:
        """Decides how many calls are timed together, to take about so long."""
        wanted = math.ceil(call_seconds / max(self.estimate, 1e-7))
        self.calls = max(1, min(MOST_CALLS, wanted))

    def time(self, synchronize: Callable[[], None], *, warm: bool) -> float:
        """Returns the seconds of a call, after a call that is not timed if `warm`."""
        time.sleep(SETTLE_SECONDS)
        if warm and self.estimate < WAKE_BELOW_SECONDS:
            self.run(1, synchronize)
        return self.run(self.calls, synchronize)

    def run(self, calls: int, synchronize: Callable[[], None]) -> float:
        """Returns the seconds of one of `calls` calls.

        Results of one set are let go, and land where the last ones were. Large ones,
        which are those of few sets, are not kept until the next run.
        """
        synchronize()
        begin = time.perf_counter()
        for _ in range(calls):
            self.ring.call(self.call)
            if self.waits:
                synchronize()
        synchronize()
        elapsed = time.perf_counter() - begin
        if self.sets <= FEW_SETS:
            self.ring.release()
        return elapsed / calls


def measure(
    tasks: Sequence[Task],
    *,
    rounds: int,
    seconds: float,
    call_seconds: float,
    synchronize: Callable[[], None] = lambda: None,
    fewest_rounds: int = 3,
) -> dict[Any, list[float]]:
    """Returns the seconds of one call of each task, round by round, by its key."""
    times: dict[Any, list[float]] = {task.key: [] for task in tasks}
    rings: dict[int, Ring] = {}
    for task in tasks:
        task.ring = rings.setdefault(task.sets, task.ring)
        task.prepare(call_seconds)
    gc.collect()
    gc.disable()
    try:
        for number, order in in_turn(
            tasks, rounds=rounds, seconds=seconds, fewest_rounds=fewest_rounds
        ):
            for task in order:
                elapsed = task.time(synchronize, warm=number >= 0)
                if number >= 0:
                    times[task.key].append(elapsed)
    finally:
        gc.enable()
        for ring in rings.values():
            ring.release()
    return times
