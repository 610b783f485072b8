"""The report of `fusednorm bench` as text, from its JSON alone."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from fusednorm.bench import goal, records
from fusednorm.bench.competitors.base import AGAINST, GRAPH, KERNEL, OURS, XLA

WORST = 5
# What stands in a cell where there is nothing to say.
NOTHING = "-"

Case = dict[str, Any]


def number(value: float | None, form: str) -> str:
    """Returns a number as a cell."""
    return NOTHING if value is None else format(value, form)


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


def scheme(case: Case) -> str:
    """Returns what `fusednorm explain` calls the way of a case through the kernels.

    Reports of commit b12840c have the plan's `variant`, as it was called then.
    """
    plan = case.get("plan", {})
    return plan.get("scheme") or plan.get("variant") or NOTHING


def _ours(case: Case) -> dict[str, Any]:
    return records.our_kernel(case) or case["results"].get(GRAPH) or {}


def _of(name: str) -> Callable[[Case], str]:
    return lambda case: number(case["results"].get(name, {}).get("median_us"), ".1f")


def _ratio_of(peer: str) -> Callable[[Case], str]:
    def cell(case: Case) -> str:
        wrong = "!" if peer in case.get("wrong", ()) else ""
        method = case["results"].get(peer, {}).get("method")
        calls = (
            "^" if method == "calls" and _ours(case).get("method") == "graph" else ""
        )
        return number(records.ratio(case, peer), ".2f") + wrong + calls

    return cell


def _name(case: Case) -> str:
    return case["shape"] + ("*" if case.get("scaled") else "")


def rows(
    report: dict[str, Any],
    extra: dict[str, Callable[[Case], str]] | None = None,
) -> list[list[str]]:
    """Returns the headings and the cells of every case.

    Columns that have nothing to say in any case are left out.

    Args:
        report: Whose cases.
        extra: Heading -> cell of more columns, after the ones of ours.
    """
    columns: dict[str, Callable[[Case], str]] = {
        "shape": _name,
        "dtype": lambda case: case["dtype"],
        "pass": lambda case: case["pass"],
        "scheme": scheme,
        "kernel us": _of(KERNEL),
        "GB/s": lambda case: number(_ours(case).get("gigabytes_per_second"), ".1f"),
        "share": lambda case: number(_ours(case).get("share_of_copy"), ".0%"),
        "copy us": _of(records.COPY),
        "in cache us": lambda case: number(
            _ours(case).get("resident", {}).get("median_us"), ".1f"
        ),
        "graph us": _of(GRAPH),
        "XLA us": _of(XLA),
        **(extra or {}),
        **{f"{peer} x": _ratio_of(peer) for peer in peers_of(report)},
        "error/bound": lambda case: number(records.worst_error(case), ".2f"),
    }
    table = [list(columns)]
    table += [[cell(case) for cell in columns.values()] for case in report["cases"]]
    return _without_empty_columns(table)


def _without_empty_columns(table: list[list[str]]) -> list[list[str]]:
    """Returns the table without columns that have nothing to say in any line."""
    columns = [
        column
        for column in zip(*table, strict=True)
        if any(cell != NOTHING for cell in column[1:])
    ]
    return [list(line) for line in zip(*columns, strict=True)]


def summary_rows(report: dict[str, Any]) -> list[list[str]]:
    """Returns the geometric mean of each peer's ratios, and the worst shapes."""
    found = [["peer", "against", "dtype", "pass", "shapes", "mean x", "worst"]]
    for peer in peers_of(report):
        for dtype, direction in kinds(report):
            of_peer = ratios(report, peer, dtype=dtype, direction=direction)
            if not of_peer:
                continue
            worst = sorted(of_peer.items(), key=lambda item: item[1])[:WORST]
            found.append(
                [
                    peer,
                    " or ".join(sorted(_against(report, peer))),
                    dtype,
                    direction,
                    str(len(of_peer)),
                    f"{records.geometric_mean(of_peer.values()):.2f}",
                    ", ".join(f"{name} {value:.2f}" for name, value in worst),
                ]
            )
    return found


def _against(report: dict[str, Any], peer: str) -> set[str]:
    return {
        case["results"][peer]["against"]
        for case in report["cases"]
        if "against" in case["results"].get(peer, {})
    }


def is_latency(report: dict[str, Any]) -> bool:
    """Returns whether the report says what calls cost: a run of the suite launch."""
    return bool(report["settings"].get("latency"))


def launch_rows(report: dict[str, Any]) -> list[list[str]]:
    """Returns what a call costs everybody, with the kernels that were counted."""
    names = list(dict.fromkeys(n for case in report["cases"] for n in case["results"]))

    def planned(case: Case) -> str:
        return str(len(case["plan"]["launches"])) if "plan" in case else NOTHING

    def cell(case: Case, name: str) -> str:
        result = case["results"].get(name)
        if result is None:
            return NOTHING
        count = result.get("kernels")
        # Layers may launch more: TensorFlow's own kernels around ours.
        other = "!" if name == KERNEL and str(count) != planned(case) else ""
        kernels = "" if count is None else f" ({count}{other})"
        return f"{result['median_us']:.1f}{kernels}"

    found = [["shape", "dtype", "pass", "planned", *names]]
    for case in report["cases"]:
        label = [case["shape"], case["dtype"], case["pass"], planned(case)]
        found.append([*label, *(cell(case, name) for name in names)])
    return _without_empty_columns(found)


def model_rows(report: dict[str, Any]) -> list[list[str]]:
    """Returns a line for each model, type, kind of norms and way of running."""
    found = [
        ["model", "dtype", "norms", "mode", "step ms", "faster x", "in norms",
         "peak MiB", "first s", "losses"]
    ]  # fmt: skip
    for entry in report.get("models", ()):
        for name, result in entry["results"].items():
            kind, mode = name.rsplit("-", 1)
            keras = entry["results"].get(f"keras-{mode}")
            faster = None
            if kind.startswith(records.OURS) and keras:
                faster = keras["median_us"] / result["median_us"]
            peak, first = (result.get(k) for k in ("peak_extra_bytes", "first_call_ms"))
            losses = entry.get("first_losses", {}).get(name, [])
            mark = "!" if name in entry.get("wrong", ()) else ""
            found.append(
                [
                    entry["shape"],
                    entry["dtype"],
                    kind,
                    mode,
                    f"{result['median_us'] / 1e3:.2f}",
                    number(faster, ".2f"),
                    number(result.get("share_in_norms"), ".0%"),
                    number(peak and peak / 2**20, ".0f"),
                    number(first and first / 1e3, ".1f"),
                    (" ".join(f"{each:.6g}" for each in losses) or NOTHING) + mark,
                ]
            )
    return found


def absences(report: dict[str, Any]) -> list[str]:
    """Returns who is missing and why, with the shapes where it is not so for all."""
    found: dict[tuple[str, str], list[str]] = {}
    entries = records.entries(report)
    for case in entries:
        for name, why in case["absent"].items():
            shapes = found.setdefault((name, why), [])
            if case["shape"] not in shapes:
                shapes.append(case["shape"])
    every = {case["shape"] for case in entries}
    lines = [
        f"{name}: {version}"
        for name, version in report["peers"].items()
        if version.startswith("missing")
    ]
    for (name, why), shapes in found.items():
        if why.startswith("missing") and name in report["peers"]:
            continue
        where = "all shapes" if set(shapes) == every else ", ".join(shapes[:3])
        if len(shapes) > 3 and where != "all shapes":
            where = f"{len(shapes)} shapes"
        lines.append(f"{name}: {why} ({where})")
    return lines


def heading(report: dict[str, Any]) -> list[str]:
    """Returns what the measurements are of."""
    environment, copy = report["environment"], report["copy"]
    changes = " with changes" if environment.get("dirty") else ""
    facts = [str(environment.get("device"))]
    if environment.get("threads"):
        facts.append(f"{environment['threads']} threads")
    facts.append(str(environment.get("date")))
    if environment.get("fusednorm"):
        facts.append(f"fusednorm {environment['fusednorm']}")
    facts.append(f"commit {str(environment.get('commit'))[:12]}{changes}")
    lines = [", ".join(facts)]
    if note := report["settings"].get("note"):
        lines.append(note)
    speeds = [
        f"{copy[key] / 1e9:.1f}"
        for key in ("bytes_per_second", "bytes_per_second_afterwards")
        if key in copy
    ]
    if speeds:
        lines.append(f"copy: {', afterwards '.join(speeds)} GB/s, read plus written")
    ways = {
        name: speed
        for name, speed in copy.items()
        if name.endswith(("in a graph", "by calls"))
    }
    if ways:
        shown = ", ".join(f"{name} {speed / 1e9:.0f}" for name, speed in ways.items())
        lines.append(f"copies in GB/s: {shown}")
        kernel = copy.get("kernel", "missing: this run had none")
        lines.append(f"copy kernel: {kernel}")
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


def explanations(report: dict[str, Any]) -> list[str]:
    """Returns what the columns and marks mean, as far as the report has them."""
    lines = []
    if report["cases"] and is_latency(report):
        lines.append("Microseconds from the call to the end.")
        if any("plan" in case for case in report["cases"]):
            lines.append(
                "In brackets: the kernels that were counted; planned: those of the "
                "plan; !: another number of our kernels."
            )
    elif report["cases"]:
        lines += [
            f"x: the peer's time over ours, like with like ({', '.join(OURS)}); above "
            "1 we are faster.",
            "share: of the copy's speed, over the least traffic, which GB/s is of too.",
        ]
    if any(case.get("scaled") for case in report["cases"]):
        lines.append("*: the batch is smaller than the model's.")
    if any(case.get("wrong") for case in report["cases"]):
        lines.append("!: its outputs were outside of the bound.")
    if any(entry.get("wrong") for entry in report.get("models", ())):
        lines.append("!: its losses differ from those with Keras's norms.")
    if "^" in "".join(cell for line in rows(report)[1:] for cell in line):
        lines.append("^: with launches, no CUDA graph could be captured.")
    if report.get("models"):
        lines += [
            "in norms: what the step loses when they are taken out.",
            "fused: ours after convert(fuse=True); fusednorm: ours after convert().",
        ]
    return lines


def left_out(report: dict[str, Any]) -> list[str]:
    """Returns what was not measured, and why."""
    return [
        f"{kind}: {each['shape']} {each['dtype']} {each['pass']}: {each['why']}"
        for kind in ("cut", "failed")
        for each in report[kind]
    ]


def checks(report: dict[str, Any]) -> list[str]:
    """Returns which checks of an old report passed, and each that did not."""
    found = report.get("checks", [])
    passed = sum(each["status"] == "passed" for each in found)
    lines = [f"{passed} of {len(found)} checks passed"] if found else []
    return lines + [
        f"{each['status']}: {each['name']} {each.get('why', '')}".rstrip()
        for each in found
        if each["status"] != "passed"
    ]


def _sections(report: dict[str, Any]) -> Iterable[Sequence[str]]:
    yield heading(report)
    yield [
        f"{name}: {version}"
        for name, version in report["peers"].items()
        if not version.startswith("missing")
    ]
    if report["cases"] and is_latency(report):
        yield [records.aligned(launch_rows(report), left=range(3))]
    elif report["cases"]:
        yield [records.aligned(rows(report), left=range(3))]
        summary = summary_rows(report)
        if len(summary) > 1:
            yield [records.aligned(summary, left=(0, 1, 2, 3, 6))]
    if report.get("models"):
        yield [records.aligned(model_rows(report), left=(0, 1, 2, 3, 9))]
    yield explanations(report)
    if goal.distances(report):
        yield [goal.table(report)]
    yield checks(report)
    yield [f"missing: {line}" for line in absences(report)]
    yield left_out(report)


def render(report: dict[str, Any]) -> str:
    """Returns the whole report as text."""
    return "\n\n".join("\n".join(lines) for lines in _sections(report) if lines)
