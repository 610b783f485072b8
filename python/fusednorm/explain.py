"""What `fusednorm explain` reports: how a norm would run on a GPU, without a GPU.

It needs neither TensorFlow nor a device, because a plan is a function of the problem
and of the properties of the device.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Sequence
from typing import Any

from fusednorm import _measured, _traffic

OPS = ("group_norm", "instance_norm", "layer_norm", "rms_norm")
DTYPES = ("float32", "float16", "bfloat16", "float64")
# The second order has kernels only for norms without an activation.
DIRECTIONS = ("forward", "backward", "second_order")
FALLBACK_DEVICE = "h100"

# More than fits into the memory of any GPU, but not too many for a grid.
MAX_ELEMENTS = 2**38

# What gamma and beta may be given for.
PARAMETERS_OF = ("all", "sample", "position")

# The scheme of a plan -> how it works.
SCHEMES = {
    "empty": "No elements: nothing runs but fills of the small outputs.",
    "rows": "Each row stays in the registers of lanes of a warp, or of a block.",
    "columns": "Sums over pieces of rows; then a block has some columns of all rows, "
    "and reads them again.",
    "tile": "One read of every tensor, in registers, in one launch.",
    "stream": "One launch that reads twice: a slab's results follow its sums at a "
    "distance (lag, in slabs) that L2 should hold.",
    "second_order": "Sums over slices of groups; a second kernel adds them up, and "
    "reads all tensors again.",
}


def problem(
    *,
    op: str,
    shape: Sequence[int],
    dtype: str = "bfloat16",
    axes: Sequence[int] = (-1,),
    groups: int | None = None,
    activation: str = "none",
    gamma: bool = True,
    beta: bool = True,
    residual: bool = False,
    mask: bool = False,
    parameters_of: str = "all",
    zero_centered: bool = False,
    param_dtype: str = "auto",
    aligned: bool = True,
) -> dict[str, Any]:
    """Returns the arguments that describe a norm to `_native.plan` and its like.

    Args:
        op: One of `OPS`.
        shape: The shape of x.
        dtype: The dtype of x.
        axes: The channel axis of group_norm and instance_norm; the normalized axes of
            the others.
        groups: The number of groups; for group_norm only.
        activation: The activation that is applied to the result.
        gamma: Whether there is a gamma.
        beta: Whether there is a beta; rms_norm never has one.
        residual: Whether a residual is added first.
        mask: Whether there is a mask; only with group_norm and instance_norm.
        parameters_of: What gamma and beta are given for, one of `PARAMETERS_OF`.
        zero_centered: Whether the scale is `1 + gamma`.
        param_dtype: The dtype of gamma and beta; "auto" is float32, or float64 for
            float64 data.
        aligned: Whether the tensors start at multiples of 16 bytes.

    Raises:
        ValueError: Where an argument does not fit.
    """
    if op == "group_norm" and groups is None:
        raise ValueError("group_norm needs groups")
    if op != "group_norm" and groups is not None:
        raise ValueError(f"groups is only for group_norm. Received op {op}")
    if any(size < 0 for size in shape) or math.prod(shape) > MAX_ELEMENTS:
        raise ValueError(
            "shape must have sizes >= 0 and at most 2^38 elements. Received: "
            f"{','.join(map(str, shape))}"
        )
    return {
        "op": "group_norm" if op == "instance_norm" else op,
        "shape": list(shape),
        "dtype": dtype,
        "axes": list(axes),
        "groups": -1 if op == "instance_norm" else groups or 0,
        "activation": activation,
        "zero_centered": zero_centered,
        "has_gamma": gamma,
        "has_beta": beta and op != "rms_norm",
        "residual": residual,
        "has_mask": mask,
        "per_sample": parameters_of == "sample",
        "per_position": parameters_of == "position",
        "param_dtype": param_dtype,
        "aligned": aligned,
    }


def collect(*, devices: Sequence[str] = (), **options: Any) -> list[dict[str, Any]]:
    """Returns the plans as plain data, one entry for each device.

    Args:
        devices: Names of well-known GPUs. If empty, the GPU of this machine is taken,
            or an H100 if there is none.
        **options: The norm, as `problem` takes it.

    Raises:
        ValueError: Where an argument does not fit.
    """
    arguments = problem(**options)
    native = importlib.import_module("fusednorm._native")
    names = ("op", "shape", "axes", "groups", "dtype", "activation", "residual")
    measurable = _measured.problem(**{name: arguments[name] for name in names})
    # The second order has no kernels for these.
    composed = (
        arguments["activation"] != "none"
        or arguments["has_mask"]
        or arguments["per_position"]
    )
    # fusednorm._measured has only norms with the usual parameters and without a mask.
    measured = (
        *(arguments["aligned"], arguments["has_gamma"]),
        arguments["has_beta"] or arguments["op"] == "rms_norm",
        not (arguments["per_sample"] or arguments["per_position"]),
        arguments["param_dtype"] in ("auto", "float32"),
        *(not arguments["has_mask"], not arguments["zero_centered"]),
    )

    def explained(device: dict[str, Any], direction: str) -> dict[str, Any]:
        where = {"device": device, "direction": direction}
        plan = native.plan(**arguments, **where)
        tuned = native.tuned(**arguments, **where)
        traffic = _traffic.launches(plan, device)
        dram_bytes = _traffic.dram_bytes(traffic)
        bandwidth = device["bandwidth"]
        # A tuned plan may be another one than the plan that was measured.
        is_measured = all(measured) and (tuned is None or tuned["stale"])
        return {
            **plan,
            "traffic": traffic,
            "dram_bytes": dram_bytes,
            "seconds_at_bandwidth": dram_bytes / bandwidth if bandwidth else None,
            "measured": _measured.find(device["name"], measurable, direction)
            if is_measured
            else None,
            "tuned": tuned,
        }

    return [
        {
            "device": device["name"],
            "bandwidth": device["bandwidth"],
            "multiprocessors": device["multiprocessors"],
            "tuned_table": native.tuned_table(),
            **{
                direction: explained(device, direction)
                for direction in DIRECTIONS
                if not composed or direction != "second_order"
            },
        }
        for device in _devices(native, devices)
    ]


def _devices(native: Any, names: Sequence[str]) -> list[dict[str, Any]]:
    known = native.known_devices()
    if not names:
        return native.cuda.devices()[:1] or [known[FALLBACK_DEVICE]]
    for name in names:
        if name not in known:
            raise ValueError(
                f"device must be one of {', '.join(known)}. Received: {name}"
            )
    return [known[name] for name in names]


def render(report: list[dict[str, Any]]) -> str:
    """Returns the report as text: a table for several devices."""
    text = _table(report) if len(report) > 1 else _details(report[0])
    notes = dict.fromkeys(
        note
        for entry in report
        for direction, plan in _plans(entry)
        for note in (
            *([_note(plan["measured"])] if plan["measured"] else []),
            *_tuned_notes(entry, direction),
        )
    )
    return "\n".join([text, *(f"\n{note}" for note in notes)])


def _tuned_notes(entry: dict[str, Any], direction: str) -> list[str]:
    """Returns the notes about the table of tuned plans."""
    table, tuned = entry["tuned_table"], entry[direction]["tuned"]
    if table["error"]:
        return [f"{table['error']}. No tuned plans are used."]
    if tuned is None:
        return []
    if tuned["stale"]:
        return [
            f"{table['path']} has a plan for {direction} on {entry['device']} that "
            f"no longer exists and is not used: {tuned['plan']} "
            f"({tuned['measured']}). `fusednorm tune` measures again."
        ]
    return [
        f"Tuned by {table['path']} for {direction} on {entry['device']} "
        f"({tuned['measured']})."
    ]


def _note(measured: dict[str, Any]) -> str:
    """Returns a note: where a measurement comes from, and if of the same kernels."""
    note = (
        f"Measured at commit {measured['commit']} on {measured['date'][:10]} "
        f"({measured['device']})."
    )
    return {
        True: note,
        False: f"{note} This library was built from another commit: its kernels may "
        "have changed since.",
        None: f"{note} It is not known from which commit this library was built: its "
        "kernels may have changed since.",
    }[measured["of_this_build"]]


def _plans(entry: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """Returns the directions that have a plan, each with its plan."""
    return [(each, entry[each]) for each in DIRECTIONS if each in entry]


def _details(entry: dict[str, Any]) -> str:
    bandwidth = entry["bandwidth"]
    rate = f"{bandwidth / 1e9:.0f} GB/s" if bandwidth else "unknown bandwidth"
    lines = [f"{entry['device']}, {rate}"]
    for direction, plan in _plans(entry):
        lines += [
            "",
            f"{direction}: {plan['scheme']}",
            f"  {SCHEMES[plan['scheme']]}",
            *_geometry(plan),
            *(
                line
                for launch in plan["launches"]
                for line in _launch(launch, entry["multiprocessors"])
            ),
            *_repeats(plan),
            f"  workspace        {plan['workspace_bytes']:,} bytes",
            *_traffic_table(plan),
            f"  at bandwidth     {_time(plan)}",
            *_measurement(plan),
            *_tuned(plan),
        ]
    return "\n".join(lines)


def _geometry(plan: dict[str, Any]) -> list[str]:
    words = {False: "no", True: "yes"}
    facts = [
        f"{name} {words[value] if isinstance(value, bool) else value}"
        for name, value in plan["geometry"].items()
    ]
    return [f"  {', '.join(facts)}"] if facts else []


def _launch(launch: dict[str, Any], multiprocessors: int) -> list[str]:
    cluster = f", clusters of {launch['cluster']}" if launch["cluster"] > 1 else ""
    lines = [
        f"  {launch['kernel']}: {launch['blocks']:,} blocks of {launch['threads']} "
        f"threads{cluster}, {launch['shared_bytes']:,} bytes of shared memory"
    ]
    if launch["threads_resident"]:
        threads = in_flight(launch, multiprocessors)
        lines.append(
            f"    on each multiprocessor {threads:,} threads, with "
            f"{threads * launch['bytes_in_flight']:,} bytes of loads in flight"
        )
    return lines


def in_flight(launch: dict[str, Any], multiprocessors: int) -> int:
    """Returns how many threads of a launch a multiprocessor runs at a time.

    That is as many as have enough registers in any case, or all of them if they are
    fewer. It is 0 if the plan does not know.
    """
    blocks = -(-launch["blocks"] // multiprocessors)
    return min(launch["threads_resident"], blocks * launch["threads"])


def _traffic_table(plan: dict[str, Any]) -> list[str]:
    """Returns a table of the MB of each launch, and their ratio to the least."""
    rows = [("MB, as modelled", "from DRAM", "to DRAM", "through L2")]
    amounts = [
        (each["kernel"], *(each[name] for name in _traffic.AMOUNTS))
        for each in plan["traffic"]
    ]
    if len(amounts) > 1:
        sums = map(sum, zip(*(row[1:] for row in amounts), strict=True))
        amounts.append(("all", *sums))
    rows += [
        (name, *(f"{amount / 1e6:,.3f}" for amount in row)) for name, *row in amounts
    ]
    first = max(len(row[0]) for row in rows)
    return [
        *(
            f"  {name:<{first}}" + "".join(f"{x:>13}" for x in row)
            for name, *row in rows
        ),
        f"  DRAM / least     {_over_least(plan)} of {plan['least_bytes']:,} bytes",
    ]


def _over_least(plan: dict[str, Any]) -> str:
    return f"{plan['dram_bytes'] / max(plan['least_bytes'], 1):.2f}"


def _repeats(plan: dict[str, Any]) -> list[str]:
    if plan["repeats"] == 1:
        return []
    return [f"  {plan['repeats']:,} times, once a sample; each time:"]


def _time(plan: dict[str, Any]) -> str:
    seconds = plan["seconds_at_bandwidth"]
    return "unknown" if seconds is None else f"{seconds * 1e6:.1f} us"


def _measurement(plan: dict[str, Any]) -> list[str]:
    measured = plan["measured"]
    if measured is None:
        return []
    return [f"  measured         {_share(measured)}, commit {measured['commit']}"]


def _tuned(plan: dict[str, Any]) -> list[str]:
    tuned = plan["tuned"]
    if tuned is None or tuned["stale"]:
        return []
    times = [f"{tuned[name] * 1e6:.1f} us" for name in ("seconds", "rule_seconds")]
    gain = tuned["rule_seconds"] / tuned["seconds"]
    return [f"  tuned            {times[0]}, by the rule {times[1]}: {gain:.2f}x"]


def _share(measured: dict[str, Any]) -> str:
    share = measured["share_of_copy"]
    return f"{measured['microseconds']:.1f} us, {share:.0%} of a copy's speed"


def _table(report: list[dict[str, Any]]) -> str:
    rows = [
        (
            *("device", "direction", "scheme", "launches", "DRAM/least"),
            *("at bandwidth", "measured"),
        )
    ]
    for entry in report:
        for direction, plan in _plans(entry):
            times = "" if plan["repeats"] == 1 else f"{plan['repeats']:,} x "
            rows.append(
                (
                    entry["device"],
                    direction,
                    plan["scheme"] + (" (tuned)" if _tuned(plan) else ""),
                    str(len(plan["launches"])),
                    _over_least(plan),
                    f"{times}{_time(plan)}",
                    _share(plan["measured"]) if plan["measured"] else "-",
                )
            )
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(
            f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)
        ).rstrip()
        for row in rows
    )
