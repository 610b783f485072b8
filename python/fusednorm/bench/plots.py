"""Draws a report from its JSON, and from nothing else."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fusednorm.bench import records
from fusednorm.bench.cases import BACKWARD, BOTH, FORWARD
from fusednorm.bench.competitors.base import AGAINST, OURS
from fusednorm.bench.shapes import SIZE_PREFIX

PASS_COLOURS = {FORWARD: "#2a78b5", BACKWARD: "#e08b3d", BOTH: "#7a7a7a"}
COLOURS = {
    records.KERNEL: "#2a78b5",
    "fusednorm-graph": "#4fa3d9",
    "fusednorm-xla": "#8cc5e8",
    "fusednorm-eager": "#1b4f78",
    "torch": "#d1495b",
    "torch-instance-norm": "#f0a3ad",
    "torch-compile": "#a63446",
    "keras-graph": "#e08b3d",
    "keras-xla": "#7a9a3a",
    "tf_keras": "#8d6a9f",
    "liger": "#5b8c5a",
    "quack": "#3d7068",
    records.COPY: "#888888",
    records.BUILTIN: "#555555",
}
GREY = "#888888"
_SCALE = {"KiB": 2**10, "MiB": 2**20, "GiB": 2**30}


def require_matplotlib() -> None:
    """Checks that plots can be drawn.

    Raises:
        ImportError: they cannot.
    """
    if importlib.util.find_spec("matplotlib") is None:
        raise ImportError("plots need matplotlib:\n    pip install matplotlib")


def draw_all(report: dict[str, Any], folder: Path) -> list[Path]:
    """Draws every plot that the report has data for, and returns their paths."""
    require_matplotlib()
    import matplotlib

    matplotlib.use("Agg")
    folder.mkdir(parents=True, exist_ok=True)
    drawn = []
    for name, draw in PLOTS.items():
        figure = draw(report)
        if figure is not None:
            path = folder / f"{name}.png"
            figure.savefig(path, dpi=150, facecolor="white")
            drawn.append(path)
            _pyplot().close(figure)
    return drawn


def _pyplot() -> Any:
    from matplotlib import pyplot

    return pyplot


def _caption(report: dict[str, Any]) -> str:
    environment = report["environment"]
    parts = [str(environment.get("device")), str(environment.get("date"))[:10]]
    if environment.get("threads"):
        parts.insert(1, f"{environment['threads']} threads")
    return ", ".join(parts)


def _tidy(axes: Any) -> None:
    axes.tick_params(axis="both", labelsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_axisbelow(True)


def _legend(figure: Any, handles: Any, labels: Any, *, columns: int) -> None:
    figure.legend(
        handles,
        labels,
        loc="outside lower center",
        ncols=columns,
        frameon=False,
        fontsize=9,
    )


def share(case: dict[str, Any]) -> float | None:
    """Returns our share of the copy's speed."""
    return (records.our_kernel(case) or {}).get("share_of_copy")


def lead(case: dict[str, Any]) -> float | None:
    """Returns the time of the best peer over ours."""
    best = records.best_peer(case)
    return best[1] if best else None


Value = Callable[[dict[str, Any]], float | None]


def _panels(
    report: dict[str, Any], value: Value
) -> list[tuple[str, list[str], dict[str, dict[str, float]]]]:
    """Returns for each dtype: its name, its shapes, and pass -> shape -> value."""
    panels = []
    for dtype in dict.fromkeys(each["dtype"] for each in report["cases"]):
        series: dict[str, dict[str, float]] = {}
        names = []
        for case in report["cases"]:
            found = value(case)
            sweep = case["shape"].startswith(SIZE_PREFIX)
            if case["dtype"] != dtype or found is None or sweep:
                continue
            series.setdefault(case["pass"], {})[case["shape"]] = found
            names.append(case["shape"])
        # Where there are parts, their sum says nothing new.
        if len(series) > 1:
            series.pop(BOTH, None)
        if series:
            panels.append((dtype, list(dict.fromkeys(names)), series))
    return panels


def _bars(report: dict[str, Any], value: Value, label: str, *, ranked: bool) -> Any:
    """Draws a value as bars, a panel for each dtype, and a line at 1."""
    panels = _panels(report, value)
    if not panels:
        return None
    most = max(len(names) for _, names, _ in panels)
    figure, axes = _pyplot().subplots(
        1,
        len(panels),
        figsize=(2.4 + 4.0 * len(panels), 1.5 + 0.3 * most),
        squeeze=False,
        layout="constrained",
    )
    for axis, (dtype, names, series) in zip(axes[0], panels, strict=True):
        if ranked:
            names = sorted(
                names,
                key=lambda name: min(s[name] for s in series.values() if name in s),
            )
        height = 0.8 / len(series)
        for n, (which, values) in enumerate(series.items()):
            offset = height * (n - (len(series) - 1) / 2)
            places = [i + offset for i, name in enumerate(names) if name in values]
            lengths = [values[name] for name in names if name in values]
            # Ratios grow from 1 to either side, on a logarithmic axis.
            start = 1.0 if ranked else 0.0
            axis.barh(
                places,
                [length - start for length in lengths],
                0.92 * height,
                left=start,
                color=PASS_COLOURS[which],
                label=which,
            )
        if ranked:
            axis.set_xscale("log")
            _plain_ticks(axis, [v for s in series.values() for v in s.values()])
        axis.axvline(1.0, color=GREY, linewidth=0.9)
        axis.set_yticks(range(len(names)), names)
        axis.set_ylim(len(names) - 0.4, -0.6)
        axis.set_title(dtype, fontsize=10)
        axis.set_xlabel(label, fontsize=9)
        axis.grid(axis="x", color="#eeeeee")
        _tidy(axis)
        axis.spines["left"].set_visible(False)
        axis.tick_params(axis="y", length=0)
    marks = axes[0][0].get_legend_handles_labels()
    _legend(figure, *marks, columns=3)
    figure.suptitle(_caption(report), fontsize=10)
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
    """Draws our kernels' share of a copy's speed, shape by shape."""
    return _bars(report, share, "share of a copy's speed", ranked=False)


def best_peer(report: dict[str, Any]) -> Any:
    """Draws the time of the best peer over ours, the worst shapes first."""
    return _bars(report, lead, "best peer's time / ours", ranked=True)


def _size(name: str) -> int:
    text = name.removeprefix(SIZE_PREFIX)
    return int(text[:-3]) * _SCALE[text[-3:]]


def _sweep(report: dict[str, Any], which: str) -> dict[str, list[tuple[int, float]]]:
    """Returns name -> (bytes, microseconds) of the sweep over sizes."""
    found: dict[str, list[tuple[int, float]]] = {}
    for case in report["cases"]:
        if case["pass"] == which and case["shape"].startswith(SIZE_PREFIX):
            for name, result in case["results"].items():
                # What is too small to be rotated past the cache is in it anyway.
                point = (_size(case["shape"]), result["median_us"])
                found.setdefault(name, []).append(point)
    return {name: sorted(points) for name, points in found.items() if len(points) > 1}


def time_against_size(report: dict[str, Any]) -> Any:
    """Draws the time of LayerNorm against the size of its input, for everybody."""
    passes = [each for each in (FORWARD, BOTH) if _sweep(report, each)]
    if not passes:
        return None
    figure, axes = _pyplot().subplots(
        1,
        len(passes),
        figsize=(1.0 + 5.0 * len(passes), 4.8),
        squeeze=False,
        sharey=True,
        layout="constrained",
    )
    for axis, which in zip(axes[0], passes, strict=True):
        series = _sweep(report, which)
        for name, points in series.items():
            axis.plot(
                *zip(*points, strict=True),
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
        axis.set_title(f"LayerNorm, rows of 256 float32, {which}", fontsize=10)
        axis.set_xlabel("size of x", fontsize=9)
        axis.grid(color="#eeeeee")
        _tidy(axis)
    axes[0][0].set_ylabel("microseconds", fontsize=9)
    handles = {}
    for axis in axes[0]:
        for handle, label in zip(*axis.get_legend_handles_labels(), strict=True):
            handles.setdefault(label, handle)
    _legend(figure, handles.values(), handles.keys(), columns=5)
    figure.suptitle(_caption(report), fontsize=10)
    return figure


def _size_name(size: int) -> str:
    unit, scale = next(
        (unit, scale) for unit, scale in reversed(_SCALE.items()) if size >= scale
    )
    return f"{size // scale} {unit}"


def tiny_latency(report: dict[str, Any]) -> Any:
    """Draws what one call on the smallest tensor of the sweep costs, for everybody."""
    swept = [
        each
        for each in report["cases"]
        if each["shape"].startswith(SIZE_PREFIX) and each["pass"] in (FORWARD, BOTH)
    ]
    if not swept:
        return None
    smallest = min(_size(each["shape"]) for each in swept)
    swept = [each for each in swept if _size(each["shape"]) == smallest]
    figure, axes = _pyplot().subplots(
        1,
        len(swept),
        figsize=(1.5 + 4.5 * len(swept), 3.4),
        squeeze=False,
        layout="constrained",
    )
    for axis, case in zip(axes[0], swept, strict=True):
        times = {
            name: result.get("resident", result)["median_us"]
            for name, result in case["results"].items()
            if name != records.COPY
        }
        names = sorted(times, key=times.__getitem__)
        bars = axis.barh(
            range(len(names)),
            [times[name] for name in names],
            0.7,
            color=[COLOURS.get(name, GREY) for name in names],
        )
        axis.bar_label(bars, fmt="%.1f", padding=3, fontsize=8)
        axis.set_yticks(range(len(names)), names)
        axis.invert_yaxis()
        axis.margins(x=0.15)
        axis.set_title(f"{_size_name(smallest)}, {case['pass']}", fontsize=10)
        axis.set_xlabel("microseconds of one call", fontsize=9)
        _tidy(axis)
    figure.suptitle(_caption(report), fontsize=10)
    return figure


def peers_by_shape(report: dict[str, Any]) -> Any:
    """Draws every peer's time over ours, forward, one mark each."""
    dtypes = list(dict.fromkeys(each["dtype"] for each in report["cases"]))
    passes = {each["pass"] for each in report["cases"]}
    which = FORWARD if FORWARD in passes else BOTH
    panels = []
    for dtype in dtypes:
        cases = [
            each
            for each in report["cases"]
            if (each["dtype"], each["pass"]) == (dtype, which)
            and not each["shape"].startswith(SIZE_PREFIX)
            and lead(each) is not None
        ]
        if cases:
            panels.append((dtype, sorted(cases, key=lead)))
    if not panels:
        return None
    most = max(len(cases) for _, cases in panels)
    figure, axes = _pyplot().subplots(
        1,
        len(panels),
        figsize=(2.4 + 4.0 * len(panels), 1.6 + 0.26 * most),
        squeeze=False,
        layout="constrained",
    )
    for axis, (dtype, cases) in zip(axes[0], panels, strict=True):
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
        axis.set_yticks(range(len(cases)), [case["shape"] for case in cases])
        axis.set_ylim(len(cases) - 0.4, -0.6)
        axis.set_title(f"{dtype}, {which}", fontsize=10)
        axis.set_xlabel("peer's time / ours", fontsize=9)
        axis.grid(color="#eeeeee")
        _tidy(axis)
    marks = axes[0][0].get_legend_handles_labels()
    _legend(figure, *marks, columns=4)
    figure.suptitle(_caption(report), fontsize=10)
    return figure


# File name -> what draws it.
PLOTS = {
    "share_of_copy": share_of_copy,
    "best_peer": best_peer,
    "peers": peers_by_shape,
    "time_against_size": time_against_size,
    "tiny_latency": tiny_latency,
}
