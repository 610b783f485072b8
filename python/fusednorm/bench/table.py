"""The report of `fusednorm bench` as text, from its JSON alone."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from fusednorm.bench import records
from fusednorm.bench.competitors.base import AGAINST, GRAPH, KERNEL, OURS

HEADINGS = ("shape", "dtype", "pass", "kernel us", "GB/s", "share", "in cache us",
            "graph us")  # fmt: skip
WORST = 5


def peers_of(report: dict[str, Any]) -> list[str]:
    """Returns the peers that have any result, in the order of AGAINST."""
    found = {
        name
        for case in report["cases"]
        for name in case["results"]
        if records.is_peer(name)
    }
    return [name for name in AGAINST if name in found]


def ratios(
    report: dict[str, Any], peer: str, *, dtype: str, direction: str
) -> dict[str, float]:
    """Returns shape -> the peer's time over ours."""
    found = {}
    for case in report["cases"]:
        if case["dtype"] == dtype and case["pass"] == direction:
            value = records.ratio(case, peer)
            if value is not None:
                found[case["shape"]] = value
    return found


def kinds(report: dict[str, Any]) -> list[tuple[str, str]]:
    """Returns the (dtype, pass) that the report has, in its order."""
    return list(
        dict.fromkeys((each["dtype"], each["pass"]) for each in report["cases"])
    )


def row(case: dict[str, Any], peers: Iterable[str]) -> list[str]:
    """Returns the cells of a case."""
    results = case["results"]
    ours = results.get(KERNEL) or results.get(GRAPH) or {}

    def number(value: float | None, form: str) -> str:
        return "-" if value is None else format(value, form)

    def cell(peer: str) -> str:
        value = records.ratio(case, peer)
        mark = "!" if peer in case.get("wrong", ()) else ""
        return number(value, ".2f") + mark

    return [
        case["shape"] + ("*" if case.get("scaled") else ""),
        case["dtype"],
        case["pass"],
        number(ours.get("median_us"), ".1f"),
        number(ours.get("gigabytes_per_second"), ".1f"),
        number(ours.get("share_of_copy"), ".0%"),
        number(ours.get("resident", {}).get("median_us"), ".1f"),
        number(results.get(GRAPH, {}).get("median_us"), ".1f"),
        *map(cell, peers),
    ]


def summary_rows(report: dict[str, Any]) -> list[list[str]]:
    """Returns the geometric mean of each peer's ratios, and the worst shapes."""
    rows = [["peer", "against", "dtype", "pass", "shapes", "mean x", "worst"]]
    for peer in peers_of(report):
        for dtype, direction in kinds(report):
            found = ratios(report, peer, dtype=dtype, direction=direction)
            if not found:
                continue
            worst = sorted(found.items(), key=lambda item: item[1])[:WORST]
            rows.append(
                [
                    peer,
                    " or ".join(sorted(_against(report, peer))),
                    dtype,
                    direction,
                    str(len(found)),
                    f"{records.geometric_mean(found.values()):.2f}",
                    ", ".join(f"{name} {value:.2f}" for name, value in worst),
                ]
            )
    return rows


def _against(report: dict[str, Any], peer: str) -> set[str]:
    return {
        case["results"][peer]["against"]
        for case in report["cases"]
        if "against" in case["results"].get(peer, {})
    }


def absences(report: dict[str, Any]) -> list[str]:
    """Returns who is missing and why, with the shapes where it is not so for all."""
    found: dict[tuple[str, str], list[str]] = {}
    for case in report["cases"]:
        for name, why in case["absent"].items():
            shapes = found.setdefault((name, why), [])
            if case["shape"] not in shapes:
                shapes.append(case["shape"])
    every = {case["shape"] for case in report["cases"]}
    lines = [
        f"{name}: {version}"
        for name, version in report["peers"].items()
        if version.startswith("missing")
    ]
    for (name, why), shapes in found.items():
        if why.startswith("missing"):
            continue
        where = "all shapes" if set(shapes) == every else f"{len(shapes)} shapes"
        lines.append(f"{name}: {why} ({where})")
    return lines


def heading(report: dict[str, Any]) -> list[str]:
    """Returns what the measurements are of."""
    environment, copy = report["environment"], report["copy"]
    changes = " with changes" if environment.get("dirty") else ""
    lines = [
        f"{environment.get('device')}, {environment.get('threads')} threads, "
        f"{environment.get('date')}, fusednorm {environment.get('fusednorm')}, "
        f"commit {str(environment.get('commit'))[:12]}{changes}"
    ]
    speeds = [
        f"{copy[key] / 1e9:.1f}"
        for key in ("bytes_per_second", "bytes_per_second_afterwards")
        if key in copy
    ]
    lines.append(f"copy: {', afterwards '.join(speeds)} GB/s, read plus written")
    if drift(report) > 0.1:
        lines.append("The copy's speed has changed: this machine was not quiet.")
    return lines


def drift(report: dict[str, Any]) -> float:
    """Returns by which share the copy's speed has changed during the run."""
    copy = report["copy"]
    before, after = (
        copy.get(key) for key in ("bytes_per_second", "bytes_per_second_afterwards")
    )
    return abs(after / before - 1) if before and after else 0.0


def render(report: dict[str, Any]) -> str:
    """Returns the whole report as text."""
    peers = peers_of(report)
    headings = [*HEADINGS, *(f"{peer} x" for peer in peers)]
    rows = [row(case, peers) for case in report["cases"]]
    lines = [
        *heading(report),
        *(
            f"{name}: {version}"
            for name, version in report["peers"].items()
            if not version.startswith("missing")
        ),
        "",
        records.aligned([headings, *rows], left=range(3)),
        "",
        records.aligned(summary_rows(report), left=(0, 1, 2, 3, 6)),
        "",
        f"x: the peer's time over ours, like with like ({', '.join(OURS)}); above 1 "
        "we are faster.",
        "share: of the copy's speed, over the least traffic. GB/s: of that traffic.",
    ]
    if any(case.get("scaled") for case in report["cases"]):
        lines.append("*: the batch is smaller than the model's.")
    if any(case.get("wrong") for case in report["cases"]):
        lines.append("!: its outputs were outside of the bound.")
    lines += [f"missing: {line}" for line in absences(report)]
    for kind in ("cut", "failed"):
        lines += [
            f"{kind}: {each['shape']} {each['dtype']} {each['pass']}: {each['why']}"
            for each in report[kind]
        ]
    return "\n".join(lines)
