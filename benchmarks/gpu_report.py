"""What the GPU benchmark found, as JSON and as tables. Needs neither GPU nor torch.

    python benchmarks/gpu_report.py benchmarks/results/h200/kernels.json

prints the tables. fusednorm.bench.records describes the JSON. A case of ours has also a
plan, and errors as multiples of their bounds; `method` says how a result was timed.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gpu_goal
from fusednorm.bench.records import (
    COPY,
    OURS,
    SCHEMA,
    aligned,
    best_peer,
    read,
    write,
)

__all__ = [
    "COPY",
    "OURS",
    "SCHEMA",
    "aligned",
    "best_peer",
    "read",
    "row",
    "scheme",
    "slowest",
    "table",
    "text",
    "worst_error",
    "write",
]


def worst_error(case: dict[str, Any]) -> float | None:
    """Returns the largest error as a multiple of its bound; NaN counts as largest."""
    errors = list((case.get("errors") or {}).values())
    if not errors:
        return None
    return math.nan if any(math.isnan(each) for each in errors) else max(errors)


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


HEADINGS = (
    "shape", "dtype", "pass", "scheme", "us", "GB/s", "share", "copy us",
    "eager x", "compile x", "liger x", "quack x", "error/bound",
)  # fmt: skip


def scheme(case: dict[str, Any]) -> str:
    """Returns what `fusednorm explain` calls the way of a case through the kernels.

    Reports of commit b12840c have the plan's `variant`, as it was called then.
    """
    plan = case["plan"]
    return plan["variant"] if "variant" in plan else plan["scheme"]


def row(case: dict[str, Any]) -> list[str]:
    """Returns the cells of a case; ratios are the peer's time over ours."""
    results = case["results"]
    ours = results.get(OURS, {})
    median = ours.get("median_us")

    def ratio(peer: str) -> str:
        other = results.get(peer, {}).get("median_us")
        if other is None or median is None:
            return "-"
        # A star: not a graph, so launches are in the time.
        star = "*" if results[peer].get("method") == "calls" else ""
        return f"{other / median:.2f}{star}"

    return [
        case["shape"],
        case["dtype"],
        case["pass"],
        scheme(case),
        _number(median, ".1f"),
        _number(ours.get("gigabytes_per_second"), ".0f"),
        _number(ours.get("share_of_copy"), ".1%"),
        _number(results.get(COPY, {}).get("median_us"), ".1f"),
        *(ratio(peer) for peer in ("eager", "compile", "liger", "quack")),
        _number(worst_error(case), ".2f"),
    ]


def yardstick(copy: dict[str, Any]) -> str:
    """Returns what was copied how fast, and by whom.

    Reports of before there was a copy kernel have the speeds of memcpy alone.
    """
    speeds = ", ".join(
        f"{name} {speed / 1e9:.0f}"
        for name, speed in copy.items()
        if name.endswith(("in a graph", "by calls"))
    )
    lines = [
        f"copy: {copy['bytes_per_second'] / 1e9:.0f} GB/s, read plus written",
        *([f"copies in GB/s: {speeds}"] if speeds else []),
        f"copy kernel: {copy.get('kernel', 'missing: this run had none')}",
    ]
    return "\n".join(lines)


def table(report: dict[str, Any]) -> str:
    """Returns what was measured, case by case."""
    environment = report["environment"]
    lines = [
        f"{environment.get('device')}, {environment.get('date')}, "
        f"commit {environment.get('commit')}"
        f"{' with changes' if environment.get('dirty') else ''}",
        yardstick(report["copy"]),
        *(f"{name}: {version}" for name, version in report["peers"].items()),
        "",
        aligned([HEADINGS, *map(row, report["cases"])], left=range(4)),
        "",
        "share: of the copy's speed, over the least traffic.",
        "x: the peer's time over ours; *: with launches, no graph could be captured.",
    ]
    for kind in ("cut", "failed"):
        lines += [
            f"{kind}: {each['shape']} {each['dtype']} {each['pass']}: {each['why']}"
            for each in report[kind]
        ]
    return "\n".join(lines)


def text(report: dict[str, Any]) -> str:
    """Returns the whole report: what was measured, and how far it is from the goal."""
    return f"{table(report)}\n\n{gpu_goal.table(report)}"


def slowest(report: dict[str, Any], count: int) -> list[dict[str, Any]]:
    """Returns the cases with the smallest share of a copy's speed, smallest first."""
    timed = [each for each in report["cases"] if OURS in each["results"]]
    timed.sort(key=lambda each: each["results"][OURS]["share_of_copy"])
    return timed[:count]


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints the tables of a report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("json", type=Path, help="what gpu_kernels.py wrote")
    print(text(read(parser.parse_args(arguments).json)))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
