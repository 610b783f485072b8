"""How far everybody's norms are from float64, over types and means far from zero.

    python benchmarks/errors.py --json benchmarks/results/errors.json
    python benchmarks/errors.py --from benchmarks/results/errors.json --docs

The first measures and prints the tables; the second prints them from the file alone
and, with --docs, puts them into docs/numerics.md. x is (ratio + standard normal) times
a standard deviation, rounded to the type; what is exact is computed from the rounded x
in float64. Everybody gets the same tensors, from a fixed seed.

An error is counted in units in the last place of the data's type and relatively, both
at the exact element, or at the root mean square of the tensor where the element is
smaller: a result that happens to be near zero has lost its digits in any computation.
"""

from __future__ import annotations

import argparse
import math
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
from fusednorm.bench import environment, records
from fusednorm.bench.cases import Case
from fusednorm.bench.competitors.base import AbsentError, Competitor, Outputs
from fusednorm.bench.data import Data
from fusednorm.bench.shapes import Shape
from fusednorm.bench.verify import Exact

SHAPES = (
    Shape("group_norm", "group_norm", (8, 16, 16, 64), (-1,), 8),
    Shape("group_norm, channels first", "group_norm", (8, 64, 16, 16), (1,), 8),
    Shape("instance_norm", "group_norm", (8, 16, 16, 64), (-1,), -1),
    Shape("layer_norm", "layer_norm", (256, 768)),
    Shape("rms_norm", "rms_norm", (256, 768)),
)
DTYPES = ("float32", "bfloat16", "float16")
# |mean| / std, before x is rounded.
RATIOS = (0.0, 1e2, 1e4, 1e6)
# The standard deviation is 1, less where x would leave the type.
LARGEST_MEAN = {"float16": 3e4}
SEED = 23
OUTPUTS = ("y", "dx", "dgamma")
DIGITS = 4
OURS = "fusednorm"
NAMES = {
    OURS: "fusednorm",
    "keras-graph": "Keras, graph",
    "keras-xla": "Keras, XLA",
    "torch": "PyTorch",
}
DOCS = Path(__file__).resolve().parents[1] / "docs" / "numerics.md"
BEGIN = "<!-- benchmarks/errors.py --docs writes from here -->"
END = "<!-- to here -->"


def data_of(shape: Shape, dtype: str, ratio: float) -> Data:
    """Returns the tensors of a case."""
    data = Data(Case(shape, shape.shape, dtype), cache_bytes=0, seed=SEED)
    normal = np.random.default_rng(SEED + 1).standard_normal(shape.shape)
    std = min(1.0, LARGEST_MEAN.get(dtype, math.inf) / ratio) if ratio else 1.0
    x = data.sets[0].x
    x[...] = ((normal + ratio) * std).astype(x.dtype)
    return data


def what_is_left(data: Data) -> dict[str, float | None]:
    """Returns what rounding has left of the deviations from the mean.

    Groups of equal elements, whose result is beta, as a share of all; and the median
    |mean| / std of the others.
    """
    shape, x = data.case.shape, data.sets[0].x.astype(np.float64)
    axes: tuple[int, ...] = (-1,)
    if shape.op == "group_norm":
        x = np.moveaxis(x, shape.axes[0], -1)
        groups = x.shape[-1] if shape.groups == -1 else shape.groups
        x = x.reshape(x.shape[0], -1, groups, x.shape[-1] // groups)
        axes = (1, 3)
    # The mean of equal elements may round; they do not differ.
    varies = x.max(axes) > x.min(axes)
    ratios = np.abs(x.mean(axes))[varies] / x.std(axes)[varies]
    return {
        "constant_groups": 1.0 - float(varies.mean()),
        "median_ratio": float(np.median(ratios)) if ratios.size else None,
    }


def competitors(data: Data) -> dict[str, Callable[[], Competitor]]:
    """Returns how to make everybody: layers in a graph, PyTorch's functions."""
    from fusednorm.bench.competitors import tensorflow

    tensors = tensorflow.Tensors(data, "/CPU:0")

    def keras(xla: bool) -> Competitor:
        norm = tensorflow.keras(tensors)
        return tensorflow.in_graph("keras", norm, tensors, xla=xla)

    def torch() -> Competitor:
        from fusednorm.bench.competitors import pytorch

        made = pytorch.Tensors(data, "cpu")
        is_instance_norm = data.case.shape.family == "instance_norm"
        return (pytorch.instance_norm if is_instance_norm else pytorch.eager)(made)

    return {
        OURS: lambda: tensorflow.graph(tensors),
        "keras-graph": lambda: keras(xla=False),
        "keras-xla": lambda: keras(xla=True),
        "torch": torch,
    }


def errors_of(got: Any, exact: np.ndarray, dtype: str) -> dict[str, float | None]:
    """Returns the largest and the mean error, in ulp and relative.

    None stands for results that are not finite.
    """
    typical = float(np.sqrt(np.mean(np.square(exact)))) or 1.0
    size = np.maximum(np.abs(exact), typical)
    error = np.abs(np.asarray(got).astype(np.float64) - exact)
    of_type = ml_dtypes.finfo(dtype)
    unit = 2.0 ** np.floor(np.log2(size)) * float(of_type.eps)
    unit = np.maximum(unit, float(of_type.smallest_subnormal))
    found = {}
    for name, values in (("ulp", error / unit), ("relative", error / size)):
        found[f"largest_{name}"] = float(np.max(values))
        found[f"mean_{name}"] = float(np.mean(values))
    return {
        name: float(f"{value:.{DIGITS}g}") if math.isfinite(value) else None
        for name, value in found.items()
    }


def measure(
    shape: Shape, dtype: str, ratio: float, who: Sequence[str] = tuple(NAMES)
) -> dict[str, Any]:
    """Returns the entry of a case."""
    data = data_of(shape, dtype, ratio)
    exact: Outputs = Exact(data).outputs
    entry: dict[str, Any] = {
        "op": shape.name,
        "x": list(shape.shape),
        "dtype": dtype,
        "ratio": ratio,
        **what_is_left(data),
        "errors": {},
        "absent": {},
    }
    made = competitors(data)
    for name in who:
        try:
            competitor = made[name]()
        except (AbsentError, ImportError) as error:
            entry["absent"][name] = f"missing: {error}"
            continue
        got = competitor.outputs(competitor.both(0))
        entry["errors"][name] = {
            output: errors_of(getattr(got, output), getattr(exact, output), dtype)
            for output in OUTPUTS
            if getattr(exact, output) is not None
        }
    return entry


def _power(value: float) -> str:
    mantissa, exponent = f"{value:.0e}".split("e")
    return f"{mantissa}e{int(exponent)}"


def _number(value: float | None, kind: str) -> str:
    """Returns an error; in ulp, less than half a hundredth of one as zero."""
    if value is None:
        return "not finite"
    if value == 0 or (kind == "ulp" and value < 5e-3):
        return "0"
    if value >= 1e5 or value < 5e-3:
        return _power(value)
    return f"{value:.0f}" if value >= 99.5 else f"{value:.2g}"


def _ratio(value: float) -> str:
    return _power(value) if value else "0"


def _cell(of: dict[str, Any] | None, kind: str) -> str:
    if of is None:
        return "-"
    return " / ".join(
        _number(of[f"{which}_{kind}"], kind) for which in ("largest", "mean")
    )


def _rows(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return [
        f"| {' | '.join(each)} |" for each in (header, ["---"] * len(header), *rows)
    ]


def summary(report: dict[str, Any]) -> list[str]:
    """Returns the largest error over all norms, in ulp, of y and of dx."""

    def worst(cases: list[dict[str, Any]], who: str, output: str) -> str:
        found = [
            case["errors"][who][output]["largest_ulp"]
            for case in cases
            if who in case["errors"]
        ]
        if not found:
            return "-"
        return _number(None if None in found else max(found), "ulp")

    rows = []
    for dtype in DTYPES:
        for ratio in RATIOS:
            cases = [
                case
                for case in report["cases"]
                if (case["dtype"], case["ratio"]) == (dtype, ratio)
            ]
            cells = [
                worst(cases, who, output) for output in ("y", "dx") for who in NAMES
            ]
            rows.append([dtype, _ratio(ratio), *cells])
    header = ["data", "\\|mean\\|/std"]
    header += [f"{output}: {NAMES[who]}" for output in ("y", "dx") for who in NAMES]
    return _rows(header, rows)


def details(report: dict[str, Any], output: str) -> list[str]:
    """Returns largest and mean errors of an output, in ulp and relative."""
    rows = []
    for case in report["cases"]:
        cells = [
            _cell(case["errors"].get(who, {}).get(output), kind)
            for kind in ("ulp", "relative")
            for who in NAMES
        ]
        rows.append([case["op"], case["dtype"], _ratio(case["ratio"]), *cells])
    header = ["norm", "data", "\\|mean\\|/std"]
    header += [f"{NAMES[who]}, ulp" for who in NAMES]
    header += [f"{NAMES[who]}, relative" for who in NAMES]
    return _rows(header, rows)


def tables(report: dict[str, Any]) -> str:
    """Returns the tables of docs/numerics.md."""
    versions = report["environment"]
    constant = ", ".join(
        dict.fromkeys(
            f"{case['dtype']} at {_ratio(case['ratio'])}"
            for case in report["cases"]
            if case["constant_groups"] == 1
        )
    )
    lines = [
        f"Keras {versions['keras']} on TensorFlow {versions['tensorflow']}, PyTorch "
        f"{versions['torch']}.",
        f"Rounding has left only constant groups in x: {constant}.",
        "",
        "Largest error in ulp over all norms:",
        "",
        *summary(report),
        "",
        "Of y, largest / mean:",
        "",
        *details(report, "y"),
        "",
        "Of dx, largest / mean:",
        "",
        *details(report, "dx"),
    ]
    return "\n".join(lines)


def with_tables(page: str, text: str) -> str:
    """Returns the page with the tables between its two marks."""
    before, rest = page.split(BEGIN)
    _, after = rest.split(END)
    return f"{before}{BEGIN}\n{text}\n{END}{after}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures or reads, and prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, default=Path("build/errors.json"))
    parser.add_argument("--from", dest="source", type=Path, metavar="JSON")
    parser.add_argument("--docs", action="store_true", help=f"write {DOCS.name} too")
    parser.add_argument("--commit", help="where the tree is a copy without git")
    options = parser.parse_args(arguments)
    if options.source is not None:
        report = records.read(options.source)
    else:
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
        os.environ["CUDA_VISIBLE_DEVICES"] = "-1"
        from fusednorm import _native

        report = {
            "schema": records.SCHEMA,
            "kind": "errors",
            "environment": {
                "date": environment.now(),
                **environment.commit(options.commit),
                **environment.versions("numpy", "tensorflow", "keras", "torch"),
                "device": environment.cpu()["device"],
                "instruction_set": _native.isa(),
            },
            "settings": {"seed": SEED},
            "cases": [],
        }
        for shape in SHAPES:
            for dtype in DTYPES:
                for ratio in RATIOS:
                    print(shape.name, dtype, ratio, file=sys.stderr, flush=True)
                    report["cases"].append(measure(shape, dtype, ratio))
        records.write(options.json, report)
        print(f"written to {options.json}", file=sys.stderr)
    text = tables(report)
    if options.docs:
        DOCS.write_text(with_tables(DOCS.read_text(), text))
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
