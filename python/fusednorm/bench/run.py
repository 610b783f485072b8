"""Runs a suite: verifies, times and records one case after the other."""

from __future__ import annotations

import gc
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from fusednorm import __version__
from fusednorm.bench import environment, records, timing, traffic
from fusednorm.bench.atex import PUBLISHED_H100
from fusednorm.bench.cases import BACKWARD, BOTH, FORWARD, Case, Suite
from fusednorm.bench.competitors import base
from fusednorm.bench.competitors.base import Competitor
from fusednorm.bench.data import Data
from fusednorm.bench.machines import Machine
from fusednorm.bench.records import BUILTIN, COPY
from fusednorm.bench.verify import BOUNDS, Exact

INTERRUPTED = 130
# Each way: so that none of it stays in a cache.
COPY_CACHES = 4
# Memory is measured in pages, and of tensors worth it.
MEMORY_FROM_BYTES = 2**21
# What is in the cache must fit there with room for everything else.
RESIDENT_SHARE = 0.5
SLOW = "too slow: one call takes {:.0f} s"
MOST_CALL_SECONDS = 20.0


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
    ):
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
            self.report["cases"] += self._measure_case(case)
        except Exception as error:
            traceback.print_exc()
            why = f"{type(error).__name__}: {error}".splitlines()[0]
            self._leave_out("failed", case, why)
            self.code = 1
        gc.collect()

    def _measure_case(self, case: Case) -> list[dict[str, Any]]:
        from fusednorm.bench.competitors.registry import Field

        data = Data(case, self._machine.cache_bytes)
        field = Field(data, self._machine, self._peers)
        exact = Exact(data)
        first: dict[tuple[str, str], float] = {}
        estimates: dict[tuple[str, str], float] = {}
        peaks: dict[tuple[str, str], int | None] = {}
        errors: dict[str, dict[str, float]] = {}
        for each in list(field.competitors):
            try:
                errors[each.name] = self._prepare(
                    each, case, exact, first, estimates, peaks
                )
            except Exception as error:
                why = f"failed: {type(error).__name__}: {error}".splitlines()[0]
                field.drop(each.name, why)
                continue
            slowest = max(
                seconds for (name, _), seconds in estimates.items() if name == each.name
            )
            if slowest > MOST_CALL_SECONDS and each.name not in base.OURS:
                field.drop(each.name, SLOW.format(slowest))
        complete, bound = exact.complete, BOUNDS[case.dtype]
        del exact
        gc.collect()
        tasks = self._tasks(data, field.competitors, estimates)
        times = timing.measure(
            tasks,
            rounds=self._suite.rounds,
            seconds=self._suite.seconds,
            call_seconds=self._suite.call_seconds,
            synchronize=self._machine.synchronize,
        )
        wrong = {
            name: found
            for name, found in errors.items()
            if not all(error <= 1 for error in found.values())
        }
        if any(name in base.OURS for name in wrong):
            self.code = 1
        entries = []
        for direction in self._suite.passes:
            results = self._results(case, direction, field.competitors, times)
            for name, result in results.items():
                both = BOTH if direction == BACKWARD else direction
                if (name, both) in first:
                    result["first_call_ms"] = first[name, both] * 1e3
                if peaks.get((name, both)) is not None and direction != BACKWARD:
                    result["peak_extra_bytes"] = peaks[name, both]
            entries.append(
                {
                    "shape": case.shape.name,
                    "dtype": case.dtype,
                    "pass": direction,
                    "op": case.shape.family,
                    "axes": list(case.shape.axes),
                    "groups": case.shape.groups,
                    "activation": case.shape.activation,
                    "residual": case.shape.residual,
                    "dims": list(case.dims),
                    "model_dims": list(case.shape.shape),
                    "scaled": case.scaled,
                    "tensor_bytes": case.tensor_bytes,
                    "least_bytes": case.least_bytes(direction),
                    "sets": len(data.sets),
                    "past_the_cache": data.past_the_cache,
                    "verified": "all"
                    if complete
                    else "y and dx, first and last samples",
                    "bound": bound,
                    "errors": errors.get(base.KERNEL),
                    "errors_of_all": errors,
                    "wrong": sorted(wrong),
                    "results": results,
                    "absent": dict(field.absent),
                    "notes": {
                        each.name: each.notes
                        for each in field.competitors
                        if each.notes
                    },
                    "published_h100_ms": PUBLISHED_H100.get(case.shape.name),
                }
            )
        return entries

    def _prepare(
        self,
        competitor: Competitor,
        case: Case,
        exact: Exact,
        first: dict[tuple[str, str], float],
        estimates: dict[tuple[str, str], float],
        peaks: dict[tuple[str, str], int | None],
    ) -> dict[str, float]:
        """Calls everything for the first time and compares the outputs."""
        found: dict[str, float] = {}
        calls = {FORWARD: competitor.forward, BOTH: competitor.both}
        for direction, call in calls.items():
            if call is None:
                continue
            key = competitor.name, direction
            first[key], results = self._timed(call)
            if direction == BOTH:
                found = exact.errors(competitor.outputs(results))
            del results
            estimates[key], _ = self._timed(call)
            if case.tensor_bytes >= MEMORY_FROM_BYTES:
                peaks[key] = self._machine.peak_extra_bytes(lambda call=call: call(0))
        return found

    def _timed(self, call: Callable[[int], Any]) -> tuple[float, Any]:
        self._machine.synchronize()
        begin = time.perf_counter()
        results = call(0)
        self._machine.synchronize()
        return time.perf_counter() - begin, results

    def _tasks(
        self,
        data: Data,
        competitors: Sequence[Competitor],
        estimates: dict[tuple[str, str], float],
    ) -> list[timing.Task]:
        """Returns what is timed: everybody's passes, rotating and in the cache."""
        case = data.case
        sets = len(data.sets)
        tasks = []

        def add(name: str, direction: str, call: Any, estimate: float) -> None:
            held = case.least_bytes(direction)
            fits = held <= RESIDENT_SHARE * self._machine.cache_bytes
            for resident in (False, True) if fits else (False,):
                tasks.append(
                    timing.Task(
                        (name, direction, resident),
                        call,
                        1 if resident else sets,
                        estimate,
                    )
                )

        for each in competitors:
            wanted = {FORWARD: each.forward, BOTH: each.both, BACKWARD: each.backward}
            for direction, call in wanted.items():
                estimate = estimates.get((each.name, direction))
                if estimate is None:
                    estimate = estimates.get((each.name, BOTH))
                if call is not None and self._needed(direction, each):
                    add(each.name, direction, call, estimate)
        for direction in self._suite.passes:
            moved = case.least_bytes(direction)
            call = self._machine.copies(moved, sets)
            add(COPY, direction, call, moved / self._bandwidth)
        return tasks

    def _needed(self, direction: str, competitor: Competitor) -> bool:
        """Returns whether a pass is asked for, or what it is the difference of."""
        passes = self._suite.passes
        if direction in passes:
            return True
        return BACKWARD in passes and competitor.backward is None

    def _results(
        self,
        case: Case,
        direction: str,
        competitors: Sequence[Competitor],
        times: dict[Any, list[float]],
    ) -> dict[str, Any]:
        """Returns everybody's figures of one pass."""
        results: dict[str, Any] = {}
        for name in [each.name for each in competitors] + [COPY]:
            rotating = _times_of(times, name, direction, False)
            # A difference can be lost in the noise.
            if not rotating or timing.quartiles(rotating)[1] <= 0:
                continue
            figures = self._figures(case, direction, rotating)
            resident = _times_of(times, name, direction, True)
            if resident and timing.quartiles(resident)[1] > 0:
                figures["resident"] = self._figures(case, direction, resident)
            if direction == BACKWARD and (name, BACKWARD, False) not in times:
                figures["method"] = "forward+backward minus forward, round by round"
            results[name] = figures
        for name, result in results.items():
            against = [each for each in base.AGAINST.get(name, ()) if each in results]
            if against:
                result["against"] = against[0]
        return results

    def _figures(
        self, case: Case, direction: str, times: Sequence[float]
    ) -> dict[str, Any]:
        figures = timing.summary(times)
        seconds = figures["median_us"] * 1e-6
        least = case.least_bytes(direction)
        figures["gigabytes_per_second"] = traffic.gigabytes_per_second(least, seconds)
        figures["share_of_copy"] = traffic.share_of_copy(
            least, seconds, self._bandwidth
        )
        return figures


def _times_of(
    times: dict[Any, list[float]], name: str, direction: str, resident: bool
) -> list[float]:
    """Returns the times of a pass; of a missing backward, what it adds to forward."""
    found = times.get((name, direction, resident))
    if found is not None or direction != BACKWARD or name == BUILTIN:
        return found or []
    both = times.get((name, BOTH, resident), [])
    forward = times.get((name, FORWARD, resident), [])
    return [whole - part for whole, part in zip(both, forward, strict=False)]
