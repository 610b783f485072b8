"""Runs a suite: one case after the other, and a report that grows meanwhile."""

from __future__ import annotations

import gc
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from fusednorm import __version__
from fusednorm.bench import environment, records, timing
from fusednorm.bench.cases import Case, Suite
from fusednorm.bench.competitors.base import OURS
from fusednorm.bench.data import Data
from fusednorm.bench.machines import Machine
from fusednorm.bench.measure import measure_case
from fusednorm.bench.verify import BOUNDS

INTERRUPTED = 130
# Each way: so that none of it stays in a cache.
COPY_CACHES = 4


class Run:
    """One run of a suite, and the report that grows meanwhile.

    Attributes:
        report: See records.py.
        code: Of the process: 0, 1 if something failed, 130 if interrupted.
    """

    def __init__(
        self,
        suite: Suite,
        cases: Sequence[Case],
        machine: Machine,
        peers: dict[str, str],
        *,
        suite_name: str,
        json: Path,
        progress: Callable[[int, int, str], None],
        commit: str | None = None,
    ) -> None:
        self._suite = suite
        self._cases = cases
        self._machine = machine
        self._peers = peers
        self._json = json
        self._progress = progress
        self._bandwidth = 0.0
        self._begin = time.perf_counter()
        self.code = 0
        self.report: dict[str, Any] = {
            "schema": records.SCHEMA,
            "kind": "bench",
            "environment": {
                "date": environment.now(),
                "fusednorm": __version__,
                **environment.commit(commit),
                **environment.versions("numpy", "tensorflow", "keras"),
                **machine.environment(),
            },
            "settings": {
                "suite": suite_name,
                "rounds": suite.rounds,
                "seconds_per_case": suite.seconds,
                "most_elements": suite.most_elements,
                "keeps_freed_memory": machine.keeps_freed_memory,
                "bounds": BOUNDS,
            },
            "copy": {},
            "peers": dict(peers),
            "cases": [],
            "cut": [],
            "failed": [],
        }

    def execute(self) -> None:
        """Measures all cases; interrupted, it keeps those that were measured."""
        number = 0
        try:
            self._measure_copy("bytes_per_second")
            for number, case in enumerate(self._cases):
                self._progress(number, len(self._cases), str(case))
                self._attempt(case)
                self._write()
            self._measure_copy("bytes_per_second_afterwards")
        except KeyboardInterrupt:
            for case in self._cases[number:]:
                self._leave_out("cut", case, "interrupted")
            self.code = INTERRUPTED
        else:
            self._progress(len(self._cases), len(self._cases), "done")
        if not self.report["cases"]:
            self.code = self.code or 1
        self._write()

    def _write(self) -> None:
        seconds = time.perf_counter() - self._begin
        self.report["settings"]["seconds"] = round(seconds, 1)
        records.write(self._json, self.report)

    def _leave_out(self, kind: str, case: Case, why: str) -> None:
        for direction in self._suite.passes:
            entry = {"shape": case.shape.name, "dtype": case.dtype, "pass": direction}
            self.report[kind].append({**entry, "why": why})

    def _measure_copy(self, key: str) -> None:
        moved = 2 * COPY_CACHES * self._machine.cache_bytes
        call = self._machine.copies(moved, 2)
        task = timing.Task("copy", call, 2, 0.01)
        times = timing.measure(
            [task], rounds=15, seconds=5, call_seconds=0.02,
            synchronize=self._machine.synchronize,
        )["copy"]  # fmt: skip
        found = self.report["copy"]
        found["bytes"] = moved
        found[key] = moved / timing.quartiles(times)[1]
        self._bandwidth = self._bandwidth or found[key]

    def _attempt(self, case: Case) -> None:
        needed = Data.needed_bytes(case, self._machine.cache_bytes)
        if needed > 0.8 * self._machine.available_bytes():
            why = f"needs about {needed / 2**30:.0f} GiB of memory"
            self._leave_out("cut", case, why)
            return
        try:
            measured = measure_case(
                case, self._suite, self._machine, self._peers, self._bandwidth
            )
            self.report["cases"] += measured
            if any(name in OURS for entry in measured for name in entry["wrong"]):
                self.code = 1
        except Exception as error:
            traceback.print_exc()
            self._leave_out("failed", case, records.one_line(error))
            self.code = 1
        gc.collect()
