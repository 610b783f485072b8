"""The file of tuned plans, which docs/tuning.md describes and C++ reads.

The first line names the version. Every other line is one problem on one device, what
`_native.tuned_key` returns of it, and after that which plan runs it and why. Fields are
`name=value` with tabs between them.
"""

from __future__ import annotations

import os
from pathlib import Path

from fusednorm import _native

HEADER = "fusednorm tuned plans, version 1"


def line(
    key: str, plan: str, *, seconds: float, rule_seconds: float, measured: str
) -> str:
    """Returns the line of a problem.

    Args:
        key: What `_native.tuned_key` returns.
        plan: The description of one of the candidates.
        seconds: That the plan took.
        rule_seconds: That the first candidate took.
        measured: With what, and when.
    """
    return "\t".join(
        (
            key,
            f"plan={plan}",
            f"nanoseconds={round(seconds * 1e9)}",
            f"rule_nanoseconds={round(rule_seconds * 1e9)}",
            f"measured={measured}",
        )
    )


def read(path: Path) -> dict[str, str]:
    """Returns the lines of a file by their keys; of no file, none.

    Raises:
        ValueError: It is no such file; the message names the line.
    """
    if not path.exists():
        return {}
    text = path.read_text()
    _native.set_tuned_table(str(path), text)
    lines = [each for each in text.splitlines()[1:] if each and each[0] != "#"]
    return {each.partition("\tplan=")[0]: each for each in lines}


def write(path: Path, lines: dict[str, str]) -> None:
    """Writes the lines in one step, so that nobody reads half of a file.

    This process uses them from now on, too.
    """
    text = "\n".join((HEADER, *(lines[key] for key in sorted(lines)), ""))
    _native.set_tuned_table(str(path), text)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(f".{os.getpid()}.part")
    partial.write_text(text)
    os.replace(partial, path)
