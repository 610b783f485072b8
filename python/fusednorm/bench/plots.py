"""Draws a report from its JSON, and from nothing else."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from fusednorm.bench import goal, records, shapes
from fusednorm.bench.cases import BACKWARD, BOTH, FORWARD
from fusednorm.bench.competitors.base import AGAINST, EAGER, GRAPH, KERNEL, OURS, XLA
from fusednorm.bench.shapes import SIZE_PREFIX

MISSING = "There are no plots: they need matplotlib (pip install matplotlib)."
PASS_COLOURS = {FORWARD: "#2a78b5", BACKWARD: "#e08b3d", BOTH: "#7a7a7a"}
COLOURS = {
    KERNEL: "#2a78b5",
    GRAPH: "#4fa3d9",
    XLA: "#8cc5e8",
    EAGER: "#1b4f78",
    "torch": "#d1495b",
    "torch-instance-norm": "#f0a3ad",
    "torch-compile": "#a63446",
    "keras-eager": "#b5651d",
    "keras-graph": "#e08b3d",
    "keras-xla": "#7a9a3a",
    "tf_keras": "#8d6a9f",
    "liger": "#5b8c5a",
    "quack": "#3d7068",
    records.COPY: "#888888",
    records.BUILTIN: "#555555",
}
# Of models: whose norms -> colour and name.
KINDS = {
    "keras": ("#e08b3d", "Keras's norms"),
    "fusednorm": ("#4fa3d9", "ours"),
    "fused": ("#2a78b5", "ours, fused"),
    "none": ("#bbbbbb", "without norms"),
}
MODES = {"graph": "tf.function", "xla": "tf.function(jit_compile=True)"}
GREY, GOAL = "#888888", "#b3261e"
LAUNCH_PREFIX = "launch-"


def can_draw() -> bool:
    """Returns whether matplotlib is there."""
    return importlib.util.find_spec("matplotlib") is not None


def draw_all(report: dict[str, Any], folder: Path, prefix: str = "") -> list[Path]:
    """Draws every plot that the report has data for, and returns their paths.

    Without matplotlib there are none.

    Args:
        report: What to draw.
        folder: Where the images go.
        prefix: What their names begin with.
    """
    if not can_draw():
        return []
    import matplotlib

    matplotlib.use("Agg")
    folder.mkdir(parents=True, exist_ok=True)
    drawn = []
    for name, draw in PLOTS.items():
        figure = draw(report)
        if figure is not None:
            figure.suptitle(_caption(report), fontsize=10)
            drawn.append(folder / f"{prefix}{name}.png")
            figure.savefig(drawn[-1], dpi=110, facecolor="white")
            _pyplot().close(figure)
    return drawn


def _pyplot() -> Any:
    from matplotlib import pyplot

    return pyplot


def _caption(report: dict[str, Any]) -> str:
    environment = report["environment"]
    parts = [str(environment.get("device")), str(environment.get("date"))[:10]]
    if environment.get("threads") and "device_properties" not in environment:
        parts.insert(1, f"{environment['threads']} threads")
    return f"{', '.join(parts)}, commit {str(environment.get('commit'))[:12]}"


def _panels(
    count: int, *, width: float, height: float, rows: int = 1, **options: Any
) -> tuple[Any, list[Any]]:
    """Returns a figure with panels, in order."""
    figure, axes = _pyplot().subplots(
        rows,
        -(-count // rows),
        figsize=(1.6 + width * -(-count // rows), height * rows),
        squeeze=False,
        layout="constrained",
        **options,
    )
    return figure, list(axes.flat)


def _tidy(axis: Any, title: str, grid: str) -> None:
    axis.set_title(title, fontsize=10)
    axis.tick_params(axis="both", labelsize=8)
    axis.spines[["top", "right"]].set_visible(False)
    axis.set_axisbelow(True)
    axis.grid(axis=grid, color="#eeeeee")


def _legend(figure: Any, axes: Iterable[Any]) -> None:
    """Adds what the panels show, each thing once."""
    handles: dict[str, Any] = {}
    for axis in axes:
        for handle, label in zip(*axis.get_legend_handles_labels(), strict=True):
            handles.setdefault(label, handle)
    figure.legend(
        handles.values(),
        handles.keys(),
        loc="outside lower center",
        ncols=min(5, max(1, len(handles))),
        frameon=False,
        fontsize=9,
    )


Case = dict[str, Any]
Value = Callable[[Case], float | None]


def share(case: Case) -> float | None:
    """Returns our share of the copy's speed."""
    return (records.our_kernel(case) or {}).get("share_of_copy")


def lead(case: Case) -> float | None:
    """Returns the time of the best peer over ours."""
    best = records.best_peer(case)
    return best[1] if best else None


def _is_of_a_model(case: Case) -> bool:
    return not case["shape"].startswith((SIZE_PREFIX, LAUNCH_PREFIX))


def _by_dtype(
    report: dict[str, Any], value: Value
) -> list[tuple[str, list[str], dict[str, dict[str, float]]]]:
    """Returns for each dtype: its name, its shapes, and pass -> shape -> value."""
    panels = []
    for dtype in dict.fromkeys(each["dtype"] for each in report["cases"]):
        series: dict[str, dict[str, float]] = {}
        names = []
        for case in filter(_is_of_a_model, report["cases"]):
            found = value(case)
            if case["dtype"] != dtype or found is None:
                continue
            series.setdefault(case["pass"], {})[case["shape"]] = found
            names.append(case["shape"])
        # Where there are parts, their sum says nothing new.
        if len(series) > 1:
            series.pop(BOTH, None)
        if series:
            panels.append((dtype, list(dict.fromkeys(names)), series))
    return panels


def _name_rows(axis: Any, names: Sequence[str]) -> None:
    axis.set_yticks(range(len(names)), names)
    axis.set_ylim(len(names) - 0.4, -0.6)
    axis.spines["left"].set_visible(False)
    axis.tick_params(axis="y", length=0)


def _bars(report: dict[str, Any], value: Value, label: str, *, ranked: bool) -> Any:
    """Draws a value as bars, a panel for each dtype, and a line at 1."""
    panels = _by_dtype(report, value)
    if not panels:
        return None
    most = max(len(names) for _, names, _ in panels)
    figure, axes = _panels(len(panels), width=4.0, height=1.5 + 0.3 * most)
    goals = {(each.shape, each.direction) for each in goal.distances(report)}
    for axis, (dtype, names, series) in zip(axes, panels, strict=True):
        if ranked:
            names = sorted(
                names,
                key=lambda name: min(s[name] for s in series.values() if name in s),
            )
        height = 0.8 / len(series)
        for n, (which, values) in enumerate(series.items()):
            offset = height * (n - (len(series) - 1) / 2)
            places = {
                name: i + offset for i, name in enumerate(names) if name in values
            }
            # Ratios grow from 1 to either side, on a logarithmic axis.
            start = 1.0 if ranked else 0.0
            axis.barh(
                list(places.values()),
                [values[name] - start for name in places],
                0.92 * height,
                left=start,
                color=PASS_COLOURS[which],
                label=which,
            )
            for name, place in places.items():
                if not ranked and (name, which) in goals:
                    wanted = goal.SHARES[goal.family(name)][which]
                    ends = place - height / 2, place + height / 2
                    axis.vlines(wanted, *ends, color=GOAL, linewidth=1.6, label="goal")
        if ranked:
            axis.set_xscale("log")
            _plain_ticks(axis, [v for s in series.values() for v in s.values()])
        axis.axvline(1.0, color=GREY, linewidth=0.9)
        axis.set_xlabel(label, fontsize=9)
        _tidy(axis, dtype, "x")
        _name_rows(axis, names)
    _legend(figure, axes)
    return figure


def _plain_ticks(axis: Any, values: list[float]) -> None:
    """Labels a logarithmic axis of ratios with plain numbers."""
    from matplotlib import ticker

    low, high = min([0.9, *values]), max([1.2, *values])
    steps = (1, 2, 5) if high / low > 20 else (1, 1.5, 2, 3, 5, 7)
    candidates = [step * 10.0**power for power in range(-3, 5) for step in steps]
    ticks = [each for each in candidates if low <= each <= high]
    axis.set_xticks(ticks, [f"{each:g}" for each in ticks])
    axis.xaxis.set_minor_locator(ticker.NullLocator())
    axis.set_xlim(low * 0.85, high * 1.15)


def share_of_copy(report: dict[str, Any]) -> Any:
    """Draws our kernels' share of a copy's speed, shape by shape, and the goal."""
    return _bars(report, share, "share of a copy's speed", ranked=False)


def best_peer(report: dict[str, Any]) -> Any:
    """Draws the best peer's time over ours, the worst shapes first."""
    return _bars(report, lead, "best peer's time / ours", ranked=True)


def share_by_family(report: dict[str, Any]) -> Any:
    """Draws the mean share of a copy's speed, every case as a dot, and the goal."""
    found = goal.distances(report)
    if not found:
        return None
    dtypes = list(dict.fromkeys(each.dtype for each in found))
    families = list(goal.SHARES)
    figure, axes = _panels(len(dtypes), width=4.6, height=4.2)
    width = 0.38
    for family, dtype, direction, mean, _ in goal.mean_shares(found):
        axis = axes[dtypes.index(dtype)]
        place = (
            families.index(family) + (width if direction == BACKWARD else -width) / 2
        )
        colour, label = PASS_COLOURS[direction], f"{direction}, geometric mean"
        axis.bar(place, mean, 0.94 * width, color=colour, label=label)
        axis.text(
            place, mean + 0.015, f"{mean:.0%}", ha="center", fontsize=9, zorder=4,
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.6},
        )  # fmt: skip
        key = family, dtype, direction
        dots = [
            each.share
            for each in found
            if (each.family, each.dtype, each.direction) == key
        ]
        across = [place + 0.36 * width] * len(dots)
        axis.scatter(across, dots, s=11, color="#333333", zorder=3, label="one shape")
        ends = place - 0.47 * width, place + 0.47 * width
        wanted = goal.SHARES[family][direction]
        axis.hlines(wanted, *ends, color=GOAL, linewidth=2.2, label="goal")
    for axis, dtype in zip(axes, dtypes, strict=True):
        axis.set_xticks(range(len(families)), families)
        axis.set_xlim(-0.6, len(families) - 0.4)
        axis.set_ylim(0, 1.05)
        axis.yaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
        _tidy(axis, dtype, "y")
    axes[0].set_ylabel("share of a copy's speed", fontsize=9)
    _legend(figure, axes)
    return figure


def time_against_size(report: dict[str, Any]) -> Any:
    """Draws everybody's time against the size of the tensor, norm by norm.

    Of tensors that stay in the cache, this is what a call costs.
    """
    panels: dict[tuple[str, str], dict[str, list[tuple[int, float]]]] = {}
    for case in report["cases"]:
        if _is_of_a_model(case) or case["pass"] == BACKWARD:
            continue
        key = case["shape"].rsplit("-", 1)[0], case["pass"]
        for name, result in case["results"].items():
            point = shapes.size_of(case["shape"]), result["median_us"]
            panels.setdefault(key, {}).setdefault(name, []).append(point)
    if not panels:
        return None
    passes = len({which for _, which in panels})
    figure, axes = _panels(
        len(panels), width=4.6, height=4.4, rows=max(1, len(panels) // passes),
        sharey="row",
    )  # fmt: skip
    for axis, ((prefix, which), series) in zip(axes, panels.items(), strict=False):
        for name, points in series.items():
            axis.plot(
                *zip(*sorted(points), strict=True),
                color=COLOURS.get(name, GREY),
                linewidth=1.6,
                linestyle="--" if name in (records.COPY, records.BUILTIN) else "-",
                marker="o" if name in OURS else "s",
                markersize=3,
                label=name,
            )
        axis.set_xscale("log", base=2)
        axis.set_yscale("log")
        ticks = sorted({size for points in series.values() for size, _ in points})
        axis.set_xticks(ticks, [_size_name(each) for each in ticks], rotation=45)
        norms = {"launch-gn": "GroupNorm + silu", "launch-rms": "RMSNorm"}
        _tidy(axis, f"{norms.get(prefix, 'LayerNorm')}, float32, {which}", "both")
        axis.set_ylabel("microseconds", fontsize=9)
    _legend(figure, axes)
    return figure


def _size_name(size: int) -> str:
    units = {"GiB": 2**30, "MiB": 2**20, "KiB": 2**10}
    unit = next(unit for unit, scale in units.items() if size >= scale)
    return f"{size // units[unit]} {unit}"


def peers_by_shape(report: dict[str, Any]) -> Any:
    """Draws every peer's time over ours, forward, one mark each."""
    passes = {each["pass"] for each in report["cases"]}
    which = FORWARD if FORWARD in passes else BOTH
    panels = []
    for dtype in dict.fromkeys(each["dtype"] for each in report["cases"]):
        cases = [
            each
            for each in filter(_is_of_a_model, report["cases"])
            if (each["dtype"], each["pass"]) == (dtype, which)
            and lead(each) is not None
        ]
        if cases:
            panels.append((dtype, sorted(cases, key=lead)))
    if not panels:
        return None
    most = max(len(cases) for _, cases in panels)
    figure, axes = _panels(len(panels), width=4.0, height=1.6 + 0.26 * most)
    for axis, (dtype, cases) in zip(axes, panels, strict=True):
        seen = []
        for peer in AGAINST:
            points = [(records.ratio(case, peer), i) for i, case in enumerate(cases)]
            points = [point for point in points if point[0] is not None]
            if points:
                seen += [value for value, _ in points]
                colour = COLOURS.get(peer, GREY)
                axis.scatter(*zip(*points, strict=True), s=22, color=colour, label=peer)
        axis.set_xscale("log")
        _plain_ticks(axis, seen)
        axis.axvline(1.0, color=GREY, linewidth=0.9)
        axis.set_xlabel("peer's time / ours", fontsize=9)
        _tidy(axis, f"{dtype}, {which}", "both")
        _name_rows(axis, [case["shape"] for case in cases])
    _legend(figure, axes)
    return figure


def training_steps(report: dict[str, Any]) -> Any:
    """Draws the time of a training step with everybody's norms and with none."""
    entries = report.get("models", [])
    policies = list(dict.fromkeys(each["dtype"] for each in entries))
    panels = [(policy, mode) for policy in policies for mode in MODES]
    if not panels:
        return None
    figure, axes = _panels(len(panels), width=5.4, height=4.2, rows=len(policies))
    width = 0.2
    for axis, (policy, mode) in zip(axes, panels, strict=True):
        timed = [
            each
            for each in entries
            if each["dtype"] == policy and f"keras-{mode}" in each["results"]
        ]
        for i, each in enumerate(timed):
            kinds = [kind for kind in KINDS if f"{kind}-{mode}" in each["results"]]
            for n, kind in enumerate(kinds):
                colour, label = KINDS[kind]
                bar = axis.bar(
                    i + (n - (len(kinds) - 1) / 2) * width,
                    each["results"][f"{kind}-{mode}"]["median_us"] / 1e3,
                    0.94 * width,
                    color=colour,
                    label=label,
                )
                axis.bar_label(bar, fmt="%.3g", fontsize=6.5, padding=1)
        names = [each["shape"].replace("-", "\n", 1) for each in timed]
        axis.set_xticks(range(len(timed)), names)
        # Bars are as wide where fewer models were timed.
        most = sum(each["dtype"] == policy for each in entries)
        axis.set_xlim(-0.6, most - 0.4)
        axis.set_ylabel("milliseconds of a step", fontsize=9)
        _tidy(axis, f"{MODES[mode]}, {policy}", "y")
    _legend(figure, axes)
    return figure


# File name -> what draws it.
PLOTS = {
    "share_by_family": share_by_family,
    "share_of_copy": share_of_copy,
    "best_peer": best_peer,
    "peers": peers_by_shape,
    "time_against_size": time_against_size,
    "training_steps": training_steps,
}
CAPTIONS = {
    "share_by_family": "The geometric mean of the share of a copy's speed, every shape "
    "as a dot, and the goal as a red line.",
    "share_of_copy": "How near the kernels come to a copy that moves as many bytes: "
    "the grey line is a copy's speed, the red ones are the goal of a GPU.",
    "best_peer": "The best peer's time over ours, the worst shapes first: right of the "
    "line we are faster.",
    "peers": "Every peer's time over ours.",
    "time_against_size": "What a call costs, and how that grows with the tensor.",
    "training_steps": "Milliseconds of a training step: forward, backward, update.",
}
