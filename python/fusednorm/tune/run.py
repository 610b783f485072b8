"""Times the plans of each problem, and decides which of them runs from now on."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from fusednorm import _native
from fusednorm.bench import timing
from fusednorm.bench.records import aligned
from fusednorm.bench.verify import BOUNDS
from fusednorm.tune.problems import Problem

DIRECTIONS = ("forward", "backward")
# Plans that gain less are not worth results that differ from another machine's.
LEAST_GAIN = 1.02


@dataclass(frozen=True)
class Case:
    """A pass of a problem on a device.

    Attributes:
        problem: Which.
        direction: "forward" or "backward", which computes all gradients.
        key: What the table knows it by.
        plans: As `_native.candidates` returns them: the first is the rule's.
    """

    problem: Problem
    direction: str
    key: str
    plans: list[dict[str, Any]]

    def __str__(self) -> str:
        """As progress shows it."""
        return f"{self.problem.name} {self.direction}"


@dataclass
class Measured:
    """What was found of one plan.

    Attributes:
        seconds: Of a call, round by round.
        error: By how much its outputs differ from the first plan's, at most, as a
            multiple of what two plans may differ by.
    """

    seconds: list[float]
    error: float = 0.0

    @property
    def is_right(self) -> bool:
        """Whether the plan computes what the first one does; not if there is NaN."""
        return self.error <= 1

    @property
    def median(self) -> float:
        """Of the seconds."""
        return timing.quartiles(self.seconds)[1]


class Machine(Protocol):
    """Where plans are timed. Attribute `device`: as `_native.plan` takes it."""

    device: dict[str, Any]

    def measure(self, case: Case) -> list[Measured]:
        """Returns what was found of each plan of a case."""


@dataclass
class Result:
    """A case that was measured.

    Attributes:
        case: Which.
        measured: Of each of its plans.
    """

    case: Case
    measured: list[Measured]

    @property
    def fastest(self) -> int:
        """The number of the plan with the smallest median, of those that are right."""
        right = [i for i, each in enumerate(self.measured) if each.is_right]
        return min(right, key=lambda i: self.measured[i].median)

    @property
    def gain(self) -> float:
        """How many times the fastest plan's time the rule's takes."""
        return self.measured[0].median / self.measured[self.fastest].median

    @property
    def wrong(self) -> list[int]:
        """The numbers of the plans that compute something else than the first."""
        return [i for i, each in enumerate(self.measured) if not each.is_right]

    def is_tuned(self, least_gain: float = LEAST_GAIN) -> bool:
        """Returns whether the fastest plan is to run in place of the rule's.

        It has to gain enough, and half of all rounds of either must not overlap.
        """
        rule, best = self.measured[0], self.measured[self.fastest]
        slowest = timing.quartiles(best.seconds)[2]
        return self.gain >= least_gain and slowest < timing.quartiles(rule.seconds)[0]


def cases(
    problems: Iterable[Problem],
    device: str | dict[str, Any],
    directions: Sequence[str] = DIRECTIONS,
) -> list[Case]:
    """Returns the passes of problems on a device, each once, if they have elements."""
    found: dict[str, Case] = {}
    for problem in problems:
        if math.prod(problem.arguments["shape"]) == 0:
            continue
        for direction in directions:
            where = {"device": device, "direction": direction}
            key = _native.tuned_key(**problem.arguments, **where)
            if key not in found:
                plans = _native.candidates(**problem.arguments, **where)
                found[key] = Case(problem, direction, key, plans)
    return list(found.values())


def measure(of: Iterable[Case], machine: Machine) -> Iterator[Result]:
    """Yields what was found of each case, one after the other."""
    for case in of:
        yield Result(case, machine.measure(case))


def difference(first: Sequence[Any], other: Sequence[Any], dtype: str) -> float:
    """Returns by how much two plans' outputs differ, as a multiple of what they may.

    Each may be off by `BOUNDS` of bench/verify.py, times the largest magnitude of the
    output, which counts as 1 if it is smaller.

    Args:
        first: Arrays or tensors of float64; None for outputs that there are not.
        other: The same of another plan.
        dtype: Of x.
    """
    worst = 0.0
    for one, two in zip(first, other, strict=True):
        if one is None:
            continue
        most = 2 * BOUNDS[dtype] * max(1.0, float(abs(one).max()))
        gap = float(abs(one - two).max()) / most
        worst = math.inf if math.isnan(gap) else max(worst, gap)
    return worst


def table(results: Sequence[Result], least_gain: float = LEAST_GAIN) -> str:
    """Returns the results as text."""
    rows = [("problem", "pass", "plans", "us by the rule", "us", "gain", "fastest")]
    for each in results:
        plans, best = each.case.plans, each.fastest
        rows.append(
            (
                each.case.problem.name,
                each.case.direction,
                str(len(plans)),
                f"{each.measured[0].median * 1e6:.1f}",
                f"{each.measured[best].median * 1e6:.1f}",
                f"{each.gain:.2f}x",
                _changes(plans[0], plans[best])
                if each.is_tuned(least_gain)
                else "the rule's",
            )
        )
    return aligned(rows, left=(0, 1, 6))


def _changes(rule: dict[str, Any], plan: dict[str, Any]) -> str:
    """Returns the scheme of a plan, and where it differs from the rule's."""
    words = plan["description"].replace(";", "").split()
    theirs = rule["description"].replace(";", "").split()
    other = [word for word in words[1:] if word not in theirs]
    return " ".join([plan["scheme"], *other[:4], *(["..."] if len(other) > 4 else [])])
