"""Draws the GPU benchmark from its JSON, and from nothing else.

    python benchmarks/plot_gpu.py benchmarks/results/h100/kernels.json

writes share_of_copy.png and best_peer.png beside the JSON: for every shape the share of
a copy's speed, and the time of the fastest peer over ours.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gpu_report

COLOURS = {"forward": "#2a78b5", "backward": "#e08b3d"}


def collect(
    report: dict[str, Any], dtype: str, value: Any
) -> tuple[list[str], dict[str, list[float | None]]]:
    """Returns shape names and, for each pass, value(case) or None for every shape."""
    names = list(dict.fromkeys(each["shape"] for each in report["cases"]))
    found = {
        (each["shape"], each["pass"]): value(each)
        for each in report["cases"]
        if each["dtype"] == dtype
    }
    series = {which: [found.get((name, which)) for name in names] for which in COLOURS}
    kept = [
        i for i in range(len(names)) if any(s[i] is not None for s in series.values())
    ]
    return [names[i] for i in kept], {
        which: [values[i] for i in kept] for which, values in series.items()
    }


def share(case: dict[str, Any]) -> float | None:
    """Returns our share of the copy's speed."""
    return case["results"].get(gpu_report.OURS, {}).get("share_of_copy")


def ratio(case: dict[str, Any]) -> float | None:
    """Returns the fastest peer's time over ours."""
    best = gpu_report.best_peer(case)
    return best[1] if best else None


def draw(
    report: dict[str, Any], value: Any, label: str, line: float, path: Path
) -> None:
    """Draws one value as bars, a panel for each dtype, and a line at what matters."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    dtypes = list(dict.fromkeys(each["dtype"] for each in report["cases"]))
    panels = [(dtype, *collect(report, dtype, value)) for dtype in dtypes]
    panels = [panel for panel in panels if panel[1]]
    if not panels:
        raise ValueError(f"the report has nothing to draw for {path.name}")
    most = max(len(names) for _, names, _ in panels)
    figure, axes = pyplot.subplots(
        1,
        len(panels),
        figsize=(1.6 + 3.6 * len(panels), 1.2 + 0.28 * most),
        squeeze=False,
        layout="constrained",
    )
    for axis, (dtype, names, series) in zip(axes[0], panels, strict=True):
        for offset, (which, values) in zip((-0.2, 0.2), series.items(), strict=True):
            places = [i + offset for i, each in enumerate(values) if each is not None]
            lengths = [each for each in values if each is not None]
            axis.barh(places, lengths, height=0.38, color=COLOURS[which], label=which)
        axis.axvline(line, color="#888888", linewidth=0.8)
        axis.set_yticks(range(len(names)), names, fontsize=8)
        axis.set_ylim(len(names) - 0.4, -0.6)
        axis.set_title(dtype, fontsize=10)
        axis.set_xlabel(label, fontsize=9)
        axis.tick_params(axis="x", labelsize=8)
        axis.tick_params(axis="y", length=0)
        axis.spines[["top", "right", "left"]].set_visible(False)
    marks = axes[0][0].get_legend_handles_labels()
    figure.legend(*marks, loc="outside lower center", ncols=2, frameon=False)
    environment = report["environment"]
    figure.suptitle(
        f"{environment.get('device')}, {str(environment.get('date'))[:10]}", fontsize=10
    )
    figure.savefig(path, dpi=150)
    pyplot.close(figure)


def main(arguments: Sequence[str] | None = None) -> int:
    """Draws both plots and prints their names."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("json", type=Path, help="what gpu_kernels.py wrote")
    parser.add_argument("--out", type=Path, help="folder; default: that of the JSON")
    options = parser.parse_args(arguments)
    report = gpu_report.read(options.json)
    folder = options.out or options.json.parent
    folder.mkdir(parents=True, exist_ok=True)
    for name, value, label in (
        ("share_of_copy", share, "share of a copy's speed"),
        ("best_peer", ratio, "fastest peer's time / ours"),
    ):
        path = folder / f"{name}.png"
        draw(report, value, label, 1.0, path)
        print(path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
