"""Draws results of a GPU from their JSON, and from nothing else.

    python benchmarks/plot_gpu.py benchmarks/results/h200/{kernels,models}.json

writes beside the kernels' JSON share_by_family.png (the share of a copy's speed against
the goal), share_of_copy.png (the same for every shape) and best_peer.png (the time of
the fastest peer over ours), and beside the models' JSON training_steps.png.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gpu_goal
import gpu_report
from fusednorm.bench import plots

KIND_COLOURS = {"keras": "#e08b3d", "fusednorm": "#2a78b5", "none": "#bbbbbb"}
KIND_LABELS = {
    "keras": "Keras's norms",
    "fusednorm": "fusednorm",
    "none": "without norms",
}
MODE_TITLES = {"graph": "tf.function", "xla": "tf.function(jit_compile=True)"}


def _caption(report: dict[str, Any]) -> str:
    environment = report["environment"]
    parts = [str(environment.get("device")), str(environment.get("date"))[:10]]
    return f"{', '.join(parts)}, commit {environment.get('commit')}"


def _tidy(axis: Any) -> None:
    axis.spines[["top", "right"]].set_visible(False)
    axis.tick_params(labelsize=9)
    axis.set_axisbelow(True)
    axis.grid(axis="y", color="#eeeeee")


def _panels(count: int) -> tuple[Any, Any]:
    """Returns a figure with panels side by side."""
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(
        1,
        count,
        figsize=(1.2 + 4.6 * count, 4.2),
        squeeze=False,
        layout="constrained",
    )
    return figure, axes[0]


def _legend(figure: Any, axis: Any) -> None:
    handles, labels = axis.get_legend_handles_labels()
    figure.legend(
        handles,
        labels,
        loc="outside lower center",
        ncols=len(labels),
        frameon=False,
        fontsize=9,
    )


def share_by_family(report: dict[str, Any]) -> Any:
    """Draws the mean share of a copy's speed, every case as a dot, and the goal."""
    found = gpu_goal.distances(report)
    dtypes = list(dict.fromkeys(each.dtype for each in found))
    families = list(gpu_goal.SHARES)
    figure, axes = _panels(len(dtypes))
    width = 0.38
    for family, dtype, direction, mean, _ in gpu_goal.mean_shares(found):
        axis = axes[dtypes.index(dtype)]
        side = -0.5 if direction == "forward" else 0.5
        place = families.index(family) + side * width
        first = family == families[0]
        colour = plots.PASS_COLOURS[direction]
        label = f"{direction}, geometric mean" if first else None
        axis.bar(place, mean, 0.94 * width, color=colour, label=label)
        axis.text(
            place, mean + 0.015, f"{mean:.0%}", ha="center", fontsize=9, zorder=4,
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.6},
        )  # fmt: skip
        shares = [
            each.share
            for each in found
            if (each.family, each.dtype, each.direction) == (family, dtype, direction)
        ]
        axis.scatter(
            [place + 0.36 * width] * len(shares),
            shares,
            s=11,
            color="#333333",
            zorder=3,
            label="one shape" if first and direction == "backward" else None,
        )
        goal = gpu_goal.SHARES[family][direction]
        axis.hlines(
            goal,
            place - 0.47 * width,
            place + 0.47 * width,
            color="#b3261e",
            linewidth=2.2,
            label="goal" if first and direction == "backward" else None,
        )
    for axis, dtype in zip(axes, dtypes, strict=True):
        axis.set_title(dtype, fontsize=10)
        axis.set_xticks(range(len(families)), families)
        axis.set_xlim(-0.6, len(families) - 0.4)
        axis.set_ylim(0, 1.05)
        axis.yaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
        _tidy(axis)
    axes[0].set_ylabel("share of a copy's speed", fontsize=9)
    _legend(figure, axes[0])
    return figure


def training_steps(report: dict[str, Any]) -> Any:
    """Draws the time of a training step with Keras's norms, with ours and with none."""
    figure, axes = _panels(len(MODE_TITLES))
    width = 0.27
    most = len(report["models"])
    for axis, (mode, title) in zip(axes, MODE_TITLES.items(), strict=True):
        timed = [
            each for each in report["models"] if f"keras-{mode}" in each["results"]
        ]
        for i, each in enumerate(timed):
            kinds = [
                kind for kind in KIND_COLOURS if f"{kind}-{mode}" in each["results"]
            ]
            for n, kind in enumerate(kinds):
                milliseconds = each["results"][f"{kind}-{mode}"]["median_us"] / 1e3
                bar = axis.bar(
                    i + (n - (len(kinds) - 1) / 2) * width,
                    milliseconds,
                    0.94 * width,
                    color=KIND_COLOURS[kind],
                    label=KIND_LABELS[kind] if i == 0 else None,
                )
                axis.bar_label(bar, fmt="%.2f", fontsize=7, padding=1)
        names = [each["model"].replace("-", "\n", 1) for each in timed]
        axis.set_xticks(range(len(timed)), names)
        # Bars are as wide where fewer models were timed.
        axis.set_xlim(-0.6, most - 0.4)
        axis.set_title(f"{title}, {report['settings']['type']}", fontsize=10)
        _tidy(axis)
    axes[0].set_ylabel("milliseconds of a step", fontsize=9)
    _legend(figure, axes[0])
    return figure


# The report's kind -> file name -> what draws it.
PLOTS = {
    "kernels": {
        "share_by_family": share_by_family,
        "share_of_copy": plots.share_of_copy,
        "best_peer": plots.best_peer,
    },
    "models": {"training_steps": training_steps},
}


def draw(path: Path, folder: Path) -> list[Path]:
    """Draws the plots of one JSON file into a folder, and returns their paths.

    Raises:
        ValueError: the file is of another kind, or has nothing to draw.
    """
    from matplotlib import pyplot

    report = gpu_report.read(path)
    kind = report.get("kind")
    if kind not in PLOTS:
        raise ValueError(f"kind must be of {', '.join(PLOTS)}, got {kind!r} in {path}")
    if not report.get("cases", report.get("models")):
        raise ValueError(f"{path} has nothing to draw")
    folder.mkdir(parents=True, exist_ok=True)
    drawn = []
    for name, function in PLOTS[kind].items():
        figure = function(report)
        if figure is not None:
            drawn.append(folder / f"{name}.png")
            figure.suptitle(_caption(report), fontsize=10)
            figure.savefig(drawn[-1], dpi=150, facecolor="white")
            pyplot.close(figure)
    return drawn


def main(arguments: Sequence[str] | None = None) -> int:
    """Draws all plots and prints their names."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "json", type=Path, nargs="+", help="what gpu_kernels.py or models.py wrote"
    )
    parser.add_argument("--out", type=Path, help="folder; default: that of the JSON")
    options = parser.parse_args(arguments)
    plots.require_matplotlib()
    import matplotlib

    matplotlib.use("Agg")
    for path in options.json:
        for drawn in draw(path, options.out or path.parent):
            print(drawn)
    return 0


if __name__ == "__main__":
    sys.exit(main())
