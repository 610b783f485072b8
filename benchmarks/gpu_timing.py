"""Times calls on a GPU, without timing Python.

A call sequence is captured into a CUDA graph and the graph is timed with events: what
is left are the kernels and the gaps between them. The calls of a sequence go around
several sets of buffers that together are larger than twice the L2 cache, so that no
call finds its input there. Competitors are timed in turn, round after round, so that
clocks and temperature are the same for all.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from fusednorm.bench.records import one_line
from fusednorm.bench.timing import in_turn

# Shorter sequences would measure the start of a graph and the resolution of events.
SEQUENCE_SECONDS = 1e-3
MOST_CALLS = 400
# The device sleeps this long first, so that it never waits for Python in between.
HEAD_START_CYCLES = 300_000


def number_of_calls(sets: int, traffic: int) -> int:
    """Returns how many calls make a sequence of about SEQUENCE_SECONDS."""
    estimate = 3e-6 + traffic / 2e12
    return max(sets, min(MOST_CALLS, math.ceil(SEQUENCE_SECONDS / estimate)))


@dataclass
class Competitor:
    """A call sequence that is ready to be timed.

    Attributes:
        name: Who.
        method: "graph", or "calls" where no graph could be captured: then Python and
            the driver's launches are part of small times.
        replay: Enqueues the sequence.
        calls: Calls in the sequence.
        note: Why there is no graph, else empty.
    """

    name: str
    method: str
    replay: Callable[[], Any]
    calls: int
    note: str = ""


@contextlib.contextmanager
def on(stream: Any) -> Iterator[None]:
    """Makes a stream current, after what was enqueued so far."""
    import torch

    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        yield


def prepare(
    name: str, call: Callable[[int], Any], sets: int, calls: int, stream: Any
) -> Competitor:
    """Captures `calls` calls into a graph; `call(i)` works on set `i`.

    Results are kept until their set comes round again, so that new ones do not land
    in memory that is still in the cache.
    """
    import torch

    kept: list[Any] = [None] * sets

    def sequence() -> None:
        for n in range(calls):
            kept[n % sets] = call(n % sets)

    with on(stream):
        for i in range(min(2, sets)):
            kept[i] = call(i)  # Compiles, tunes and allocates what it does only once.
    stream.synchronize()
    graph = torch.cuda.CUDAGraph()
    try:
        # Not torch.cuda.graph(), which collects garbage and empties the caches.
        with torch.cuda.stream(stream):
            graph.capture_begin(capture_error_mode="thread_local")
            try:
                sequence()
            finally:
                graph.capture_end()
        kept.clear()
    except Exception as error:
        kept[:] = [None] * sets
        torch.cuda.synchronize()
        note = one_line(error)
        return Competitor(name, "calls", sequence, calls, note)
    return Competitor(name, "graph", graph.replay, calls)


def as_calls(
    name: str, call: Callable[[int], Any], sets: int, calls: int
) -> Competitor:
    """Returns the sequence as back-to-back calls from Python."""

    def sequence() -> None:
        for n in range(calls):
            call(n % sets)

    return Competitor(name, "calls", sequence, calls)


def measure(
    competitors: Sequence[Competitor],
    stream: Any,
    *,
    rounds: int,
    seconds: float,
    fewest_rounds: int = 5,
) -> dict[str, list[float]]:
    """Returns the seconds of one call, round by round, of each competitor.

    Stops after `rounds`, or after `seconds` if there were `fewest_rounds` by then.
    """
    import torch

    times: dict[str, list[float]] = {each.name: [] for each in competitors}
    with torch.cuda.stream(stream):
        for number, order in in_turn(
            competitors, rounds=rounds, seconds=seconds, fewest_rounds=fewest_rounds
        ):
            events = []
            for each in order:
                start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
                torch.cuda._sleep(HEAD_START_CYCLES)
                start.record(stream)
                each.replay()
                end.record(stream)
                events.append((each, start, end))
            stream.synchronize()
            if number < 0:
                continue  # The first round warms up.
            for each, start, end in events:
                elapsed = start.elapsed_time(end) * 1e-3 / each.calls
                times[each.name].append(elapsed)
    return times
