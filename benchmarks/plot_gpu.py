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

import gpu_report
from fusednorm.bench import plots


def main(arguments: Sequence[str] | None = None) -> int:
    """Draws both plots and prints their names."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("json", type=Path, help="what gpu_kernels.py wrote")
    parser.add_argument("--out", type=Path, help="folder; default: that of the JSON")
    options = parser.parse_args(arguments)
    report = gpu_report.read(options.json)
    drawn = plots.draw_all(report, options.out or options.json.parent)
    if not drawn:
        raise ValueError(f"{options.json} has nothing to draw")
    for path in drawn:
        print(path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
