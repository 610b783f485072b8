"""Runs jobs: one after the other, and a report that grows meanwhile."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

from fusednorm import __version__
from fusednorm.bench import environment, records
from fusednorm.bench.machines import Machine
from fusednorm.bench.progress import Schedule

INTERRUPTED = 130


class Job(Protocol):
    """Something to measure: a norm in all passes (measure.py), a model (models.py).

    Attributes:
        section: Of the report, where its entries go.
        labels: Shape, dtype and pass of each of these.
        estimate: Seconds that measuring takes, more or less.
    """

    section: str
    labels: list[dict[str, str]]
    estimate: float

    def needed_bytes(self) -> int:
        """Returns a guess at the memory that measuring takes at most."""

    def measure(self, bandwidth: float) -> list[dict[str, Any]]:
        """Returns the entries; `bandwidth` is bytes a second of a copy."""


class Run:
    """One run, and the report that grows meanwhile.

    Attributes:
        report: See records.py.
        code: Of the process: 0, 1 if something failed, 130 if interrupted.
    """

    def __init__(
        self,
        jobs: Sequence[Job],
        machine: Machine,
        peers: dict[str, str],
        *,
        settings: dict[str, Any],
        json: Path,
        progress: Callable[[Schedule, int, int, str], None],
        budget: float | None = None,
        commit: str | None = None,
    ) -> None:
        """Prepares the report.

        Args:
            jobs: What to measure, in this order.
            machine: Where.
            peers: Name -> version, or "missing: why".
            settings: What the report says of how it was measured.
            json: Where the report goes, after each job.
            progress: Is told how far the run is.
            budget: Seconds for everything; jobs that do not fit are cut.
            commit: Where the code is a copy without git.
        """
        self._jobs = jobs
        self._machine = machine
        self._json = json
        self._progress = progress
        self._schedule = Schedule([each.estimate for each in jobs], budget)
        self.code = 0
        self.report: dict[str, Any] = {
            "schema": records.SCHEMA,
            "kind": "bench",
            "environment": {
                "date": environment.now(),
                "fusednorm": __version__,
                **environment.commit(commit),
                **environment.versions("numpy", "tensorflow", "keras", "torch"),
                **machine.environment(),
            },
            "settings": {
                **settings,
                "keeps_freed_memory": machine.keeps_freed_memory,
                "budget_seconds": budget,
            },
            "copy": {},
            "peers": dict(peers),
            "cases": [],
            "models": [],
            "cut": [],
            "failed": [],
        }

    def execute(self) -> None:
        """Measures everything; interrupted, it keeps what was measured."""
        number, total = 0, len(self._jobs)
        try:
            copy = self.report["copy"]
            copy |= self._machine.measure_copy()
            for number, job in enumerate(self._jobs):
                self._progress(self._schedule, number, total, str(job))
                if self._schedule.fits(number):
                    self._attempt(number, job)
                    self._write()
                else:
                    self._leave_out("cut", job, "no time")
            afterwards = self._machine.measure_copy()["bytes_per_second"]
            copy["bytes_per_second_afterwards"] = afterwards
        except KeyboardInterrupt:
            for job in self._jobs[number:]:
                self._leave_out("cut", job, "interrupted")
            self.code = INTERRUPTED
        else:
            self._progress(self._schedule, total, total, "done")
        if not records.entries(self.report):
            self.code = self.code or 1
        if self._machine.is_gpu:
            clocks = environment.query_gpu()
            self.report["environment"]["nvidia_smi_afterwards"] = clocks
        self._write()

    def _write(self) -> None:
        self.report["settings"]["seconds"] = round(self._schedule.elapsed(), 1)
        records.write(self._json, self.report)

    def _leave_out(self, kind: str, job: Job, why: str) -> None:
        self.report[kind] += [{**label, "why": why} for label in job.labels]

    def _attempt(self, number: int, job: Job) -> None:
        needed = job.needed_bytes()
        if needed > 0.8 * self._machine.available_bytes():
            why = f"needs about {needed / 2**30:.0f} GiB of memory"
            self._leave_out("cut", job, why)
            return
        begin = time.perf_counter()
        try:
            measured = job.measure(self.report["copy"]["bytes_per_second"])
            self.report[job.section] += measured
            wrong = [name for entry in measured for name in entry["wrong"]]
            if any(name.startswith(records.OURS) for name in wrong):
                self.code = 1
        except Exception as error:
            traceback.print_exc()
            self._leave_out("failed", job, records.one_line(error))
            self.code = 1
        self._machine.release()
        self._schedule.took(number, time.perf_counter() - begin)
