"""What a benchmark found, as JSON: the one thing that tables, plots and pages read.

    schema        2
    kind          "bench"
    environment   the machine, the versions, the commit
    settings      the suite, and how it was measured
    copy          bytes_per_second of a copy in the same run, and every measurement
    peers         name -> version, or "missing: why"
    cases         norms: one entry for each shape, dtype and pass
    models        training steps: one entry for each model and dtype policy
    cut, failed   what was not measured, and why
    checks        of some old reports: what else was run, and whether it passed

An entry has `shape` (of a model, its name), `dtype`, `pass`, absent {name: why}, and
results {name: {median_us, quartiles_us, rounds, ...}}. Those of norms also have
least_bytes, errors as multiples of their bounds, on a GPU the plan, and in their
results gigabytes_per_second, share_of_copy, `method` ("graph" is a CUDA graph) and,
where they were counted, `kernels`. Ours are named `fused...`. A result of a peer may
say `against`: which of ours it is compared with. models.py says what only models have.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

SCHEMA = 2
# How the names of our results begin.
OURS = "fused"
KERNEL = "fusednorm-kernel"
COPY = "copy"
# One built-in TensorFlow op on the same tensor: what calling any op costs.
BUILTIN = "builtin"


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
    schema = report.get("schema") if isinstance(report, dict) else None
    if schema != SCHEMA:
        raise ValueError(f"{path} must have schema {SCHEMA}, got {schema!r}")
    return report


def one_line(error: BaseException) -> str:
    """Returns what a report says of an exception: its type, and how it begins."""
    return f"{type(error).__name__}: {error}".splitlines()[0]


def is_peer(name: str) -> bool:
    """Returns whether a result is a competitor's: not ours, and no yardstick."""
    return not name.startswith(OURS) and name not in (COPY, BUILTIN)


def our_kernel(case: dict[str, Any]) -> dict[str, Any] | None:
    """Returns the result of our kernels."""
    return case["results"].get(KERNEL)


def entries(report: dict[str, Any]) -> list[dict[str, Any]]:
    """Returns the entries of norms and of models."""
    return [*report.get("cases", ()), *report.get("models", ())]


def key(entry: dict[str, Any]) -> tuple[str, str, str]:
    """Returns what is the same for an entry in every report."""
    return entry["shape"], entry["dtype"], entry["pass"]


def worst_error(case: dict[str, Any]) -> float | None:
    """Returns the largest error as a multiple of its bound; NaN counts as largest."""
    errors = list((case.get("errors") or {}).values())
    if not errors:
        return None
    return math.nan if any(math.isnan(each) for each in errors) else max(errors)


def ratio(case: dict[str, Any], peer: str) -> float | None:
    """Returns how many times the time of ours a peer takes; None without either."""
    theirs = case["results"].get(peer)
    if theirs is None:
        return None
    ours = case["results"].get(theirs.get("against", KERNEL))
    return theirs["median_us"] / ours["median_us"] if ours else None


def best_peer(case: dict[str, Any]) -> tuple[str, float] | None:
    """Returns the peer that leaves us the smallest lead, and that lead."""
    ratios = {name: ratio(case, name) for name in case["results"] if is_peer(name)}
    ratios = {name: value for name, value in ratios.items() if value is not None}
    if not ratios:
        return None
    name = min(ratios, key=ratios.__getitem__)
    return name, ratios[name]


def geometric_mean(values: Iterable[float]) -> float | None:
    """Returns it; None of nothing."""
    logarithms = [math.log(each) for each in values]
    return math.exp(math.fsum(logarithms) / len(logarithms)) if logarithms else None


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
