"""Runs the checks, and renders what they found."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from fusednorm import info
from fusednorm._doctor.cases import Check, places_of
from fusednorm.bench import records

SCHEMA = 1
TITLES = {
    "installation": "Installation",
    "gpu": "GPU, driver and TensorFlow",
    "plans": "Kernels of full-sized shapes",
    "accuracy": "Largest errors against float64, relative to the largest element",
    "determinism": "Determinism: forward and backward, all outputs bit for bit",
    "xla": "XLA: forward and backward under jit_compile=True",
    "kept": "Bytes kept for the backward pass",
}


def collect(progress: Callable[[str], None] | None = None) -> dict[str, Any]:
    """Runs all checks; see `fusednorm.doctor`."""
    from fusednorm._doctor import (
        accuracy,
        determinism,
        gpu,
        installation,
        kept,
        machine,
        plans,
        xla,
    )

    begin = time.perf_counter()
    here = info.collect()
    places = places_of(here)
    no_ops = None if places.devices else places.why_not
    no_native = None if places.native else "the native module does not load"
    nowhere = None if places.all else f"{no_native} and {no_ops}"
    planned = {
        "installation": (None, lambda: installation.check(here)),
        "gpu": (None, lambda: gpu.check(here, machine.look(here))),
        "plans": (no_native, plans.check),
        "accuracy": (nowhere, lambda: accuracy.check(places)),
        "determinism": (nowhere, lambda: determinism.check(places)),
        "xla": (no_ops, lambda: xla.check(places)),
        "kept": (no_ops, lambda: kept.check(places)),
    }
    checks = {}
    for name, (why_not, run) in planned.items():
        if progress is not None:
            progress(name)
        started = time.perf_counter()
        if why_not is None:
            found = _attempt(name, run)
        else:
            found = Check(notes=[f"Did not run: {why_not}."])
        checks[name] = asdict(found) | {"seconds": time.perf_counter() - started}
    problems = [each for check in checks.values() for each in check["problems"]]
    return {
        "schema": SCHEMA,
        "ok": not problems,
        "problems": problems,
        "seconds": time.perf_counter() - begin,
        "info": here,
        "checks": checks,
    }


def _attempt(name: str, run: Callable[[], Check]) -> Check:
    """Runs a check; one that fails is a problem, beside what the others find."""
    try:
        return run()
    except Exception as error:
        first = records.one_line(error)
        return Check(problems=[f"The check of {name} failed: {first}"])


def render(report: dict[str, Any]) -> str:
    """Returns the report as text."""
    lines = [info.render(report["info"])]
    for name, check in report["checks"].items():
        if name == "installation" and not check["notes"]:
            continue
        lines += ["", f"{TITLES[name]} ({check['seconds']:.1f} s)"]
        if check["rows"]:
            columns = list(check["rows"][0])
            rows = [[_text(row[column]) for column in columns] for row in check["rows"]]
            left = [
                i for i, column in enumerate(columns)
                if isinstance(check["rows"][0][column], str)
            ]  # fmt: skip
            lines.append(records.aligned([columns, *rows], left=left))
        lines += check["notes"]
    lines.append("")
    if report["ok"]:
        lines.append(f"All is well ({report['seconds']:.0f} s).")
    else:
        lines += [f"Wrong: {each}" for each in report["problems"]]
    return "\n".join(lines)


def _text(value: Any) -> str:
    """Returns a cell: sizes with commas, errors with two digits, ratios with one."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:.1f}" if value >= 0.1 else f"{value:.1e}"
    return str(value)
