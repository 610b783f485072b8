"""Measures one case: everybody's passes over the same tensors, verified first."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from fusednorm.bench import launches, timing, traffic
from fusednorm.bench.atex import PUBLISHED_H100
from fusednorm.bench.cases import BACKWARD, BOTH, FORWARD, Case, Suite
from fusednorm.bench.competitors import base, registry
from fusednorm.bench.competitors.base import Competitor
from fusednorm.bench.data import Data
from fusednorm.bench.machines import Machine
from fusednorm.bench.records import COPY, one_line
from fusednorm.bench.verify import BOUNDS, Exact

# Memory is measured in pages, and of tensors worth it.
MEMORY_FROM_BYTES = 2**21
# What is in the cache must fit there with room for everything else.
RESIDENT_SHARE = 0.5
# A peer that takes longer for one call is left out.
MOST_CALL_SECONDS = 20.0

# Larger copies are as fast as the run's own, and take memory.
MOST_COPIED_BYTES = 2**30

# On a GPU a case needs fewer seconds than on a CPU.
GPU_SECONDS = 4.0

Times = dict[Any, list[float]]


@dataclass(frozen=True)
class CaseJob:
    """A case of a suite, to be measured.

    Attributes:
        case: What to measure.
        suite: How thoroughly, and which passes.
        machine: Where.
        peers: Name -> version, or "missing: why".
    """

    section = "cases"

    case: Case
    suite: Suite
    machine: Machine
    peers: dict[str, str]

    def __str__(self) -> str:
        """As the progress line shows it."""
        return str(self.case)

    @property
    def labels(self) -> list[dict[str, str]]:
        """Shape, dtype and pass of each entry."""
        shape = {"shape": self.case.shape.name, "dtype": self.case.dtype}
        return [{**shape, "pass": direction} for direction in self.suite.passes]

    @property
    def estimate(self) -> float:
        """Seconds, more or less."""
        if self.machine.is_gpu:
            layers = 3.0 if self.suite.layers else 0.0
            return 1.0 + layers + self.case.tensor_bytes / 5e8
        # Layers are traced, and compiled by XLA.
        layers = 8.0 if self.suite.layers else 0.0
        return layers + 0.5 * self.suite.seconds + self.case.elements / 5e6

    @property
    def _cache_bytes(self) -> int:
        """What the sets are to exceed twice: nothing where one set is to stay there."""
        return 0 if self.suite.latency else self.machine.cache_bytes

    def needed_bytes(self) -> int:
        """Returns a guess at the memory that measuring takes at most."""
        return Data.needed_bytes(self.case, self._cache_bytes)

    def measure(self, bandwidth: float) -> list[dict[str, Any]]:
        """Returns the case's entries of the report, one for each pass.

        Args:
            bandwidth: Bytes a second of a copy, read plus written.
        """
        case, suite, machine = self.case, self.suite, self.machine
        data = Data(case, self._cache_bytes, device=machine.data_device)
        preparation = _Preparation(data, machine)
        field = registry.Field(
            data, machine, self.peers, kernels=suite.kernels, layers=suite.layers
        )
        for each in list(field.competitors):
            why = preparation.prepare(each)
            if why is not None:
                field.drop(each.name, why)
        preparation.release()
        _start_backward(field.competitors, len(data.sets))
        tasks = _tasks(data, field.competitors, suite, machine, preparation, bandwidth)
        times = timing.measure(
            tasks,
            rounds=suite.rounds,
            seconds=min(suite.seconds, GPU_SECONDS)
            if machine.is_gpu
            else suite.seconds,
            call_seconds=suite.call_seconds,
            synchronize=machine.synchronize,
        )
        if suite.latency and machine.is_gpu:
            preparation.count_kernels(field.competitors)
        common = {
            "op": case.shape.family,
            "axes": list(case.shape.axes),
            "groups": case.shape.groups,
            "activation": case.shape.activation,
            "residual": case.shape.residual,
            "dims": list(case.dims),
            "model_dims": list(case.shape.shape),
            "scaled": case.scaled,
            "tensor_bytes": case.tensor_bytes,
            "sets": len(data.sets),
            "past_the_cache": data.past_the_cache,
            "absent": dict(field.absent),
            "notes": {
                each.name: each.notes for each in field.competitors if each.notes
            },
            "published_h100_ms": PUBLISHED_H100.get(case.shape.name),
            **preparation.verdict(),
        }
        names = [each.name for each in field.competitors]
        entries = []
        for label in self.labels:
            direction = label["pass"]
            results = _results(case, direction, names, times, tasks, bandwidth)
            preparation.complete(results, direction)
            entry = {**label, "least_bytes": case.least_bytes(direction)}
            if machine.is_gpu:
                entry["plan"] = _plans(case, machine, direction)
            entries.append({**entry, "results": results, **common})
        return entries


def _start_backward(competitors: Sequence[Competitor], sets: int) -> None:
    """Lets everybody make what a backward pass needs of a forward pass, for all sets.

    Otherwise the first backward pass of each set would be timed with a forward pass.
    """
    for each in competitors:
        if each.backward is not None:
            for i in range(sets):
                each.backward(i)


def _plans(case: Case, machine: Machine, direction: str) -> dict[str, Any]:
    """Returns the plan of a pass; of both, how many kernels they launch together."""
    from fusednorm.bench.competitors import cuda

    if direction != BOTH:
        return cuda.plan(case, machine.device, direction)
    both = (cuda.plan(case, machine.device, each) for each in (FORWARD, BACKWARD))
    return {"launches": [launch for plan in both for launch in plan["launches"]]}


class _Preparation:
    """First calls: how long they take, what they return, how much memory they need."""

    def __init__(self, data: Data, machine: Machine) -> None:
        self._case = data.case
        self._machine = machine
        self._exact: Exact | None = Exact(data)
        self._complete = self._exact.complete
        self._first: dict[tuple[str, str], float] = {}
        self._estimates: dict[tuple[str, str], float] = {}
        self._peaks: dict[tuple[str, str], int | None] = {}
        self._errors: dict[str, dict[str, float]] = {}
        self._kernels: dict[tuple[str, str], int] = {}

    def prepare(self, competitor: Competitor) -> str | None:
        """Calls everything for the first time; returns why it is of no use, if so."""
        try:
            self._errors[competitor.name] = self._call(competitor)
        except Exception as error:  # One that fails is a result, not the end.
            return f"failed: {one_line(error)}"
        slowest = max(
            seconds
            for (name, _), seconds in self._estimates.items()
            if name == competitor.name
        )
        if slowest > MOST_CALL_SECONDS and competitor.name not in base.OURS:
            return f"too slow: one call takes {slowest:.0f} s"
        return None

    def _call(self, competitor: Competitor) -> dict[str, float]:
        errors: dict[str, float] = {}
        calls = {FORWARD: competitor.forward, BOTH: competitor.both}
        for direction, call in calls.items():
            if call is None:
                continue
            key = competitor.name, direction
            self._first[key], results = self._timed(call)
            if direction == BOTH:
                errors = self._exact.errors(competitor.outputs(results))
            del results
            self._estimates[key], _ = self._timed(call)
            if self._case.tensor_bytes >= MEMORY_FROM_BYTES:
                self._peaks[key] = self._machine.peak_extra_bytes(
                    lambda call=call: call(0)
                )
        return errors

    def _timed(self, call: Callable[[int], Any]) -> tuple[float, Any]:
        self._machine.synchronize()
        begin = time.perf_counter()
        results = call(0)
        self._machine.synchronize()
        return time.perf_counter() - begin, results

    def release(self) -> None:
        """Gives the exact outputs back before anything is timed."""
        self._exact = None
        self._machine.release()

    def count_kernels(self, competitors: Sequence[Competitor]) -> None:
        """Counts the kernels of each call; one that cannot be counted has no count."""
        for each in competitors:
            by = "torch" if each.launches else "tensorflow"
            for direction, call in ((FORWARD, each.forward), (BOTH, each.both)):
                if call is not None:
                    key = each.name, direction
                    try:
                        self._kernels[key] = launches.count(
                            lambda call=call: call(0), self._machine.synchronize, by=by
                        )
                    except Exception as error:  # A profiler that does not work here.
                        each.notes.append(f"kernels not counted: {one_line(error)}")

    def estimate(self, name: str, direction: str) -> float:
        """Returns seconds of a call; of backward, those of both passes."""
        both = self._estimates.get((name, BOTH))
        return self._estimates.get((name, direction), both)

    def verdict(self) -> dict[str, Any]:
        """Returns what the verification found."""
        wrong = [
            name
            for name, found in self._errors.items()
            if not all(error <= 1 for error in found.values())
        ]
        return {
            "verified": "all" if self._complete else "first and last samples: y, dx",
            "bound": BOUNDS[self._case.dtype],
            "errors": self._errors.get(base.KERNEL),
            "errors_of_all": self._errors,
            "wrong": sorted(wrong),
        }

    def complete(self, results: dict[str, Any], direction: str) -> None:
        """Adds first calls, memory and kernels to the results of a pass."""
        if direction == BACKWARD:  # Nobody calls it alone.
            return
        for name, result in results.items():
            if (name, direction) in self._first:
                result["first_call_ms"] = self._first[name, direction] * 1e3
            if (name, direction) in self._kernels:
                result["kernels"] = self._kernels[name, direction]
            if self._peaks.get((name, direction)) is not None:
                result["peak_extra_bytes"] = self._peaks[name, direction]


def _tasks(
    data: Data,
    competitors: Sequence[Competitor],
    suite: Suite,
    machine: Machine,
    preparation: _Preparation,
    bandwidth: float,
) -> list[timing.Task]:
    """Returns what is timed: everybody's passes, rotating and in the cache."""
    case, sets = data.case, len(data.sets)

    def calls() -> Iterator[tuple[Competitor, str, Any, float]]:
        for each in competitors:
            passes = {FORWARD: each.forward, BOTH: each.both, BACKWARD: each.backward}
            for direction, call in passes.items():
                # A backward pass that cannot be called alone is their difference.
                difference = BACKWARD in suite.passes and each.backward is None
                if call is not None and (direction in suite.passes or difference):
                    estimate = preparation.estimate(each.name, direction)
                    yield each, direction, call, estimate

    tasks: list[timing.Task] = []
    for each, direction, call, estimate in calls():
        key, moved = (each.name, direction, False), case.least_bytes(direction)
        if suite.latency:
            tasks.append(timing.Task(key, call, sets, estimate, waits=True))
            continue
        if each.launches:
            tasks.append(machine.kernel_task(key, call, sets, estimate, moved))
        else:
            tasks.append(timing.Task(key, call, sets, estimate))
        if not machine.is_gpu and moved <= RESIDENT_SHARE * machine.cache_bytes:
            key = (each.name, direction, True)
            tasks.append(timing.Task(key, call, 1, estimate))
    for direction in suite.passes:
        moved = case.least_bytes(direction)
        if moved > MOST_COPIED_BYTES or suite.latency:
            continue
        call, estimate = machine.copies(moved, sets), moved / bandwidth
        key = (COPY, direction, False)
        tasks.append(machine.kernel_task(key, call, sets, estimate, moved))
        if not machine.is_gpu and moved <= RESIDENT_SHARE * machine.cache_bytes:
            key = (COPY, direction, True)
            tasks.append(timing.Task(key, call, 1, estimate))
    return tasks


def _results(
    case: Case,
    direction: str,
    names: Sequence[str],
    times: Times,
    tasks: Sequence[timing.Task],
    bandwidth: float,
) -> dict[str, Any]:
    """Returns everybody's figures of one pass."""
    least = case.least_bytes(direction)
    how = {task.key: task for task in tasks}
    results: dict[str, Any] = {}
    for name in [*names, COPY]:
        figures = _figures(times_of(times, name, direction, False), least, bandwidth)
        if figures is None:
            continue
        in_cache = times_of(times, name, direction, True)
        if resident := _figures(in_cache, least, bandwidth):
            figures["resident"] = resident
        if task := how.get((name, direction, False)):
            figures["method"] = task.method
            if note := getattr(task, "note", ""):
                figures["note"] = note
        else:
            figures["method"] = "forward+backward minus forward, round by round"
        results[name] = figures
    for name, result in results.items():
        against = [each for each in base.AGAINST.get(name, ()) if each in results]
        if against:
            result["against"] = against[0]
    return results


def _figures(
    times: Sequence[float], least: int, bandwidth: float
) -> dict[str, Any] | None:
    """Returns the figures of some rounds; None where a difference is lost in noise."""
    if not times or (seconds := timing.quartiles(times)[1]) <= 0:
        return None
    return {
        **timing.summary(times),
        "gigabytes_per_second": traffic.gigabytes_per_second(least, seconds),
        "share_of_copy": traffic.share_of_copy(least, seconds, bandwidth),
    }


def times_of(times: Times, name: str, direction: str, resident: bool) -> list[float]:
    """Returns the times of a pass; of a missing backward, what it adds to forward."""
    found = times.get((name, direction, resident))
    if found is not None or direction != BACKWARD:
        return found or []
    both = times.get((name, BOTH, resident), [])
    forward = times.get((name, FORWARD, resident), []) if both else []
    return [whole - part for whole, part in zip(both, forward, strict=True)]
