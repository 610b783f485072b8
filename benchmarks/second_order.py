"""Times the second-order ops on the CPU beside their composition of TensorFlow ops.

    python benchmarks/second_order.py

Both compute the gradients of the first-order gradients from the same inputs, in a
tf.function. Rounds alternate between them; times are medians, and errors the largest
ones against the composition in float64, relative to the largest element.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import fusednorm
import numpy as np
import tensorflow as tf
from fusednorm import _composition

Outputs = list[tf.Tensor]


@dataclass(frozen=True)
class Case:
    """A norm and a shape; attributes as the ops have them."""

    name: str
    kind: str
    shape: tuple[int, ...]
    attributes: dict[str, Any] = field(default_factory=lambda: {"axes": [-1]})


CASES = (
    Case("GroupNorm, 32 groups", "group_norm", (8, 56, 56, 256), {"groups": 32}),
    Case("GroupNorm, 8 groups", "group_norm", (8, 32, 32, 64), {"groups": 8}),
    Case("InstanceNorm", "group_norm", (4, 64, 64, 64), {"groups": -1}),
    Case(
        "InstanceNorm, channels first",
        "group_norm",
        (4, 64, 64, 64),
        {"groups": -1, "axis": 1},
    ),
    Case("LayerNorm", "layer_norm", (4096, 768)),
    Case("RMSNorm", "rms_norm", (4096, 768)),
)


def inputs_of(case: Case, rng: np.random.Generator) -> dict[str, Any]:
    """Returns float32 inputs of the second-order op."""

    def normal(shape: Any) -> tf.Tensor:
        return tf.constant(rng.normal(size=shape), tf.float32)

    channels = case.shape[case.attributes.get("axis", -1)]
    x, gamma = normal(case.shape), normal([channels])
    forward = getattr(fusednorm.load_op_library(), f"fusednorm_{case.kind}")
    centred = case.kind != "rms_norm"
    absent = {"residual": []}
    if centred:
        absent["beta"] = []
    if case.kind == "group_norm":
        absent["mask"] = []
    saved = forward(x=x, gamma=[gamma], **absent, **case.attributes)
    inputs = {
        **{"x": x, "dy": normal(case.shape), "ddx": normal(case.shape)},
        **{"gamma": [gamma], "ddgamma": [normal([channels])]},
        **{"rstd": saved.rstd, "drstd": normal(saved.rstd.shape)},
    }
    if centred:
        inputs |= {"mean": saved.mean, "ddbeta": [normal([channels])]}
    return inputs


def functions_of(case: Case) -> dict[str, Callable[[dict[str, Any]], Outputs]]:
    """Returns the two ways to compute the same outputs."""
    op = getattr(fusednorm.load_op_library(), f"fusednorm_{case.kind}_grad_grad")

    @tf.function
    def fused(inputs: dict[str, Any]) -> Outputs:
        return tf.nest.flatten(list(op(**inputs, **case.attributes)))

    @tf.function
    def composed(inputs: dict[str, Any]) -> Outputs:
        return _composition.gradients.second_order(case.kind, inputs, case.attributes)

    return {"fused": fused, "composed": composed}


def largest_error(got: Outputs, exact: Outputs) -> float:
    """Returns the largest error of an output, relative to its largest element."""
    worst = 0.0
    for a, b in zip(got, exact, strict=True):
        error = tf.reduce_max(tf.abs(tf.cast(a, tf.float64) - b))
        worst = max(worst, float(error / tf.reduce_max(tf.abs(b))))
    return worst


def measure(case: Case, rounds: int) -> dict[str, tuple[float, float]]:
    """Returns the median seconds and the largest error of both ways."""
    inputs = inputs_of(case, np.random.default_rng(0))
    functions = functions_of(case)
    wide = tf.nest.map_structure(lambda x: tf.cast(x, tf.float64), inputs)
    exact = functions["composed"](wide)
    errors = {
        name: largest_error(function(inputs), exact)
        for name, function in functions.items()
    }
    times: dict[str, list[float]] = {name: [] for name in functions}
    for _ in range(rounds):
        for name, function in functions.items():
            start = time.perf_counter()
            # Reading one output waits for all.
            function(inputs)[-1].numpy()
            times[name].append(time.perf_counter() - start)
    return {name: (statistics.median(times[name]), errors[name]) for name in functions}


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=21)
    arguments = parser.parse_args()
    threads = tf.config.threading.get_intra_op_parallelism_threads() or "all"
    print(f"TensorFlow {tf.__version__}, {threads} threads, {arguments.rounds} rounds")
    print("| norm | shape | fused ms | composed ms | ratio | error | composed error |")
    print("|---|---|---|---|---|---|---|")
    for case in CASES:
        measured = measure(case, arguments.rounds)
        (fused, error), (composed, other) = measured["fused"], measured["composed"]
        shape = "x".join(map(str, case.shape))
        print(
            f"| {case.name} | {shape} | {fused * 1e3:.2f} | {composed * 1e3:.2f} "
            f"| {composed / fused:.1f} | {error:.1e} | {other:.1e} |"
        )


if __name__ == "__main__":
    main()
