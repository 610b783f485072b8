"""What the GPU benchmark found, as JSON and as one table. Needs neither GPU nor torch.

The JSON of one run:

    schema        1
    environment   gpu_environment.collect()
    settings      how it was measured
    copy          bytes_per_second of a device-to-device copy, and every measurement
    peers         name -> version, or "missing: why"
    cases         one entry for each shape, dtype and pass
    cut, failed   what was not measured, and why

A case holds the shape's name, dtype, pass, least_bytes, errors (as multiples of their
bounds), plan, absent {peer: why}, and results {name: {median_us, quartiles_us, rounds,
method, gigabytes_per_second, share_of_copy}}.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

SCHEMA = 1
OURS = "fusednorm"
COPY = "copy"
# Not competitors: the yardstick, and ourselves timed in another way.
_NO_PEERS = frozenset({OURS, COPY, f"{OURS} calls"})


def write(path: Path, report: dict[str, Any]) -> None:
    """Writes the report in one step, so that an interruption leaves a whole file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(path.suffix + ".part")
    partial.write_text(json.dumps(report, indent=1) + "\n")
    os.replace(partial, path)


def read(path: Path) -> dict[str, Any]:
    """Reads a report.

    Raises:
        ValueError: It is not one of ours.
    """
    report = json.loads(Path(path).read_text())
    if report.get("schema") != SCHEMA:
        raise ValueError(
            f"{path} must have schema {SCHEMA}, got {report.get('schema')!r}"
        )
    return report


def best_peer(case: dict[str, Any]) -> tuple[str, float] | None:
    """Returns the fastest peer and how many times our time it takes."""
    results = case["results"]
    peers = {
        name: result["median_us"]
        for name, result in results.items()
        if name not in _NO_PEERS
    }
    if not peers or OURS not in results:
        return None
    name = min(peers, key=peers.__getitem__)
    return name, peers[name] / results[OURS]["median_us"]


def worst_error(case: dict[str, Any]) -> float | None:
    """Returns the largest error as a multiple of its bound; NaN counts as largest."""
    errors = list((case.get("errors") or {}).values())
    if not errors:
        return None
    return math.nan if any(math.isnan(each) for each in errors) else max(errors)


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


HEADINGS = (
    "shape", "dtype", "pass", "variant", "us", "GB/s", "share", "plan", "copy us",
    "eager x", "compile x", "liger x", "quack x", "error/bound",
)  # fmt: skip


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

    plan = case.get("plan") or {}
    return [
        case["shape"],
        case["dtype"],
        case["pass"],
        str(plan.get("variant", "-")),
        _number(median, ".1f"),
        _number(ours.get("gigabytes_per_second"), ".0f"),
        _number(ours.get("share_of_copy"), ".1%"),
        _number(plan.get("predicted_share"), ".0%"),
        _number(results.get(COPY, {}).get("median_us"), ".1f"),
        *(ratio(peer) for peer in ("eager", "compile", "liger", "quack")),
        _number(worst_error(case), ".2f"),
    ]


def aligned(rows: Sequence[Sequence[str]], left: Iterable[int] = ()) -> str:
    """Returns rows of text as columns; numbers to the right."""
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    left = set(left)
    return "\n".join(
        "  ".join(
            cell.ljust(width) if i in left else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(cells, widths, strict=True))
        ).rstrip()
        for cells in rows
    )


def table(report: dict[str, Any]) -> str:
    """Returns the whole report as text."""
    environment = report["environment"]
    copy = report["copy"]
    lines = [
        f"{environment.get('device')}, {environment.get('date')}, "
        f"commit {environment.get('commit')}"
        f"{' with changes' if environment.get('dirty') else ''}",
        f"copy: {copy['bytes_per_second'] / 1e9:.0f} GB/s, read plus written",
        *(f"{name}: {version}" for name, version in report["peers"].items()),
        "",
        aligned([HEADINGS, *map(row, report["cases"])], left=range(4)),
        "",
        "share: of the copy's speed, over the least traffic; plan: as predicted.",
        "x: the peer's time over ours; *: with launches, no graph could be captured.",
    ]
    for kind in ("cut", "failed"):
        lines += [
            f"{kind}: {each['shape']} {each['dtype']} {each['pass']}: {each['why']}"
            for each in report[kind]
        ]
    return "\n".join(lines)


def slowest(report: dict[str, Any], count: int) -> list[dict[str, Any]]:
    """Returns the cases with the smallest share of a copy's speed, smallest first."""
    timed = [each for each in report["cases"] if OURS in each["results"]]
    timed.sort(key=lambda each: each["results"][OURS]["share_of_copy"])
    return timed[:count]
