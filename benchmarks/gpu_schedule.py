"""Decides which cases of the GPU benchmark there is time for."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from gpu_problems import Case


@dataclass
class Schedule:
    """Decides what there is time for.

    A case is measured with everything but torch.compile first of all; what is left of
    the time is for compiling, in the order of the cases.

    Attributes:
        budget: Seconds for everything.
        scale: How much longer cases take than estimated, as seen so far.
        compiling: Seconds that torch.compile took for one case, as seen so far.
    """

    budget: float
    begin: float = field(default_factory=time.perf_counter)
    scale: float = 1.0
    compiling: dict[str, float] = field(
        default_factory=lambda: {"forward": 6.0, "backward": 10.0}
    )
    # As if this many seconds had gone as estimated: the first case also starts CUDA.
    _estimated: float = 10.0
    _taken: float = 10.0

    @staticmethod
    def estimate(case: Case) -> float:
        """Returns seconds: set-up, and what grows with the tensors."""
        return 0.3 + case.least_bytes / 2e9

    def elapsed(self) -> float:
        """Returns seconds since the start."""
        return time.perf_counter() - self.begin

    def fits(self, case: Case) -> bool:
        """Returns whether there is time for the case."""
        return self.elapsed() + self.scale * self.estimate(case) <= self.budget

    def may_compile(self, case: Case, rest: Sequence[Case]) -> bool:
        """Returns whether compiling leaves time for this case and the rest."""
        needed = self.scale * sum(map(self.estimate, [case, *rest]))
        return self.elapsed() + needed + self.compiling[case.direction] <= self.budget

    def took(self, case: Case, seconds: float, compiling: float) -> None:
        """Learns from a case that is done; `compiling` is part of `seconds`."""
        if compiling:
            kept = self.compiling[case.direction]
            self.compiling[case.direction] = (kept + compiling) / 2
        self._estimated += self.estimate(case)
        self._taken += seconds - compiling
        self.scale = min(3.0, max(0.2, self._taken / self._estimated))
