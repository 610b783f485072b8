"""Times of the CUDA kernels on GPUs that they were measured on.

The package carries them as measured/<known device>.json, which
benchmarks/measured.py makes of a report of `fusednorm bench --suite kernels`:

    device   as the driver names it
    commit   that was measured
    date     of the measurement
    cases    one for each problem and pass: op, shape, axes, groups, dtype, activation,
             residual, pass, microseconds, share_of_copy

All have gamma and, where the norm is centred, beta: one for all samples, in float32.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fusednorm import _compat

FOLDER = Path(__file__).with_name("measured")


def problem(
    *,
    op: str,
    shape: Sequence[int],
    axes: Sequence[int],
    groups: int,
    dtype: str,
    activation: str,
    residual: bool,
) -> dict[str, Any]:
    """Returns what a case has of a problem, in one spelling of several.

    Args:
        op: "group_norm", "layer_norm" or "rms_norm".
        shape: Of x.
        axes: From the front or, negative, from the back.
        groups: Of group_norm; -1 is one for each channel.
        dtype: Of x.
        activation: Applied to the result.
        residual: Whether one is added first.
    """
    axes = sorted(axis % len(shape) for axis in axes)
    return {
        "op": op,
        "shape": list(shape),
        "axes": axes,
        "groups": shape[axes[0]] if groups == -1 else groups,
        "dtype": dtype,
        "activation": activation,
        "residual": residual,
    }


def find(device: str, wanted: dict[str, Any], direction: str) -> dict[str, Any] | None:
    """Returns what was measured of a problem on a device, or None.

    Args:
        device: As `known_devices` or as the driver names it.
        wanted: What `problem` returns.
        direction: "forward" or "backward".

    Returns:
        microseconds and share_of_copy of the case, device, commit and date of the
        measurement, and of_this_build: whether this library was built from that
        commit, None if the build does not know.
    """
    wanted = {**wanted, "pass": direction}
    for path in sorted(FOLDER.glob("*.json")):
        report = json.loads(path.read_text())
        if device not in (path.stem, report["device"]):
            continue
        for case in report["cases"]:
            if all(case[name] == value for name, value in wanted.items()):
                return {
                    "microseconds": case["microseconds"],
                    "share_of_copy": case["share_of_copy"],
                    **{name: report[name] for name in ("device", "commit", "date")},
                    "of_this_build": _of_this_build(report["commit"]),
                }
    return None


def _of_this_build(commit: str) -> bool | None:
    # Not every build knows it: there is no git where an sdist is compiled.
    built = getattr(_compat.build_info(), "COMMIT", None)
    if built is None:
        return None
    return built.startswith(commit) or commit.startswith(built)
