"""Makes of a report of the suite `kernels` what `fusednorm explain` shows of it.

    python benchmarks/measured.py benchmarks/results/h200/kernels.json

writes python/fusednorm/measured/h200.json, named after the report's folder, which is to
be one of `known_devices`. Only our own times go there. Needs neither GPU nor torch.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fusednorm import _measured
from fusednorm.bench import goal, records
from fusednorm.bench.shapes import SHAPES

FOLDER = Path(__file__).resolve().parents[1] / "python" / "fusednorm" / "measured"


def measured(report: dict[str, Any]) -> dict[str, Any]:
    """Returns what the package keeps of a report; fusednorm._measured describes it.

    Raises:
        ValueError: a case has other dimensions than the shape of its name.
    """
    shapes = {each.name: each for each in SHAPES}
    for case in report["cases"]:
        if tuple(case["dims"]) != shapes[case["shape"]].shape:
            raise ValueError(f"{case['shape']} must have its own shape, got {case}")
    environment = report["environment"]
    cases = []
    for found in goal.distances(report):
        shape = shapes[found.shape]
        problem = _measured.problem(
            op=shape.op,
            shape=shape.shape,
            axes=shape.axes,
            groups=shape.groups,
            dtype=found.dtype,
            activation=shape.activation,
            residual=shape.residual,
        )
        cases.append(
            {
                **problem,
                "pass": found.direction,
                "microseconds": round(found.ours, 2),
                "share_of_copy": round(found.share, 4),
            }
        )
    return {
        **{name: environment[name] for name in ("device", "commit", "date")},
        "cases": cases,
    }


def text(kept: dict[str, Any]) -> str:
    """Returns it as JSON with a line for each case, so that changes can be read."""
    cases = ",\n".join(f"  {json.dumps(case)}" for case in kept["cases"])
    head = json.dumps({**kept, "cases": []}, indent=1)
    return head.replace('"cases": []', f'"cases": [\n{cases}\n ]') + "\n"


def main(arguments: Sequence[str] | None = None) -> int:
    """Writes the file of one report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "json", type=Path, help="what `fusednorm bench --suite kernels` wrote"
    )
    parser.add_argument("--out", type=Path, default=FOLDER, help="its folder")
    options = parser.parse_args(arguments)
    options.out.mkdir(parents=True, exist_ok=True)
    written = options.out / f"{options.json.resolve().parent.name}.json"
    written.write_text(text(measured(records.read(options.json))))
    print(written)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
