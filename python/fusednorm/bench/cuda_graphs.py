"""Times calls on a GPU, without timing Python.

A call sequence is captured into a CUDA graph and the graph is timed with events: what
is left are the kernels and the gaps between them. The calls of a sequence go around
several sets of buffers that together are larger than twice the L2 cache, so that no
call finds its input there. Needs PyTorch.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from fusednorm.bench import timing
from fusednorm.bench.records import one_line

# Shorter sequences would measure the start of a graph and the resolution of events.
SEQUENCE_SECONDS = 1e-3
MOST_CALLS = 400
# The device sleeps this long first, so that it never waits for Python in between.
HEAD_START_CYCLES = 300_000


def number_of_calls(sets: int, moved: int) -> int:
    """Returns how many calls make a sequence of about SEQUENCE_SECONDS."""
    estimate = 3e-6 + moved / 2e12
    return max(sets, min(MOST_CALLS, math.ceil(SEQUENCE_SECONDS / estimate)))


class GraphTask(timing.Task):
    """Calls that are replayed from a CUDA graph; plain calls where none is captured.

    Attributes:
        method: "graph", or "calls" where no graph could be captured: then Python and
            the driver's launches are part of small times.
        note: Why there is no graph, else empty.
    """

    def __init__(
        self,
        key: Any,
        call: Callable[[int], Any],
        sets: int,
        estimate: float,
        moved: int,
    ) -> None:
        super().__init__(key, call, sets, estimate)
        self.note = ""
        self._moved = moved
        self._graph: Any = None

    def prepare(self, call_seconds: float) -> None:
        """Captures a sequence of calls, which all have been made once before."""
        import torch

        self.calls = number_of_calls(self.sets, self._moved)
        # What is done only once, for each set, is not to be in the graph.
        kept = [self.call(i) for i in range(self.sets)]
        torch.cuda.synchronize()
        graph = torch.cuda.CUDAGraph()
        try:
            # Not torch.cuda.graph(), which collects garbage and empties the caches.
            graph.capture_begin(capture_error_mode="thread_local")
            try:
                for n in range(self.calls):
                    kept[n % self.sets] = self.call(n % self.sets)
            finally:
                graph.capture_end()
        except Exception as error:  # Peers raise anything.
            torch.cuda.synchronize()
            self.note = one_line(error)
            super().prepare(call_seconds)
        else:
            self.method, self._graph = "graph", graph

    def time(self, synchronize: Callable[[], None], *, warm: bool) -> float:
        """Returns the seconds of a call."""
        if self._graph is None:
            return super().time(synchronize, warm=warm)
        import torch

        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        torch.cuda._sleep(HEAD_START_CYCLES)
        start.record()
        self._graph.replay()
        end.record()
        end.synchronize()
        return start.elapsed_time(end) * 1e-3 / self.calls
