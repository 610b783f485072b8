"""Times a training step of small models, with Keras's norms and with ours.

    python benchmarks/models.py --json build/models.json

A step is forward, backward and an update by plain gradient descent in one tf.function,
in a graph and compiled by XLA. Models with Keras's norms, with ours and with none take
turns, round after round. The share of the step spent in norms is what the step loses
when every norm is taken out and all else stays, activations and additions included.
Ours start from Keras's weights, and the losses must agree before anything is timed.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from fusednorm.bench import environment, records, timing
from networks import KINDS, MODELS, Norms

MODES = ("graph", "xla")
# Of the first losses, relative: the same weights, other orders of summation.
LOSS_TOLERANCE = 1e-4
LEARNING_RATE = 1e-3


def training_step(model: Any, xla: bool) -> Callable[[Any], Any]:
    """Returns x -> loss, which also updates the model."""
    import tensorflow as tf

    variables = [each.value for each in model.trainable_variables]

    def step(x: Any) -> Any:
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(tf.square(model(x, training=True) - 0.5))
        for variable, gradient in zip(
            variables, tape.gradient(loss, variables), strict=True
        ):
            variable.assign_sub(LEARNING_RATE * gradient)
        return loss

    return tf.function(step, jit_compile=xla)


def measure_model(
    name: str, modes: Sequence[str], rounds: int, machine: Any
) -> dict[str, Any]:
    """Returns the entry of a model: everybody's results, and who is absent."""
    import keras
    import numpy as np
    import tensorflow as tf

    make, batch = MODELS[name]
    keras.utils.set_random_seed(5)
    models = {kind: make(Norms(kind)) for kind in KINDS}
    shape = (batch, *models["keras"].input_shape[1:])
    x = tf.constant(np.random.default_rng(5).standard_normal(shape, np.float32))
    weights = models["keras"].get_weights()
    entry: dict[str, Any] = {"model": name, "input": list(shape), "absent": {}}
    entry["parameters"] = models["keras"].count_params()
    results: dict[str, dict[str, Any]] = {}
    tasks, losses = [], {}
    for mode in modes:
        for kind, model in models.items():
            label = f"{kind}-{mode}"
            if kind != "none":
                model.set_weights(weights)
            step = training_step(model, xla=mode == "xla")
            begin = time.perf_counter()
            try:
                loss = float(step(x))
            except tf.errors.InvalidArgumentError:
                entry["absent"][label] = "no XLA kernels in this build"
                continue
            results[label] = {"first_call_ms": (time.perf_counter() - begin) * 1e3}
            if kind != "none":
                losses[label] = loss
            peak = machine.peak_extra_bytes(lambda step=step: step(x))
            results[label]["peak_extra_bytes"] = peak
            begin = time.perf_counter()
            step(x)
            estimate = time.perf_counter() - begin
            # The function keeps the step of this round of the loop.
            call = lambda i, step=step: step(x)  # noqa: E731
            tasks.append(timing.Task(label, call, 1, estimate))
    entry["first_losses"] = losses
    size = max(abs(each) for each in losses.values())
    if max(losses.values()) - min(losses.values()) > LOSS_TOLERANCE * size:
        raise ArithmeticError(f"the first losses of {name} differ: {losses}")
    times = timing.measure(tasks, rounds=rounds, seconds=30, call_seconds=0.05)
    for label, each in times.items():
        results[label] |= timing.summary(each)
    for mode in modes:
        without = times.get(f"none-{mode}")
        for kind in KINDS[:2]:
            of = times.get(f"{kind}-{mode}")
            if of and without:
                shares = [1 - b / a for a, b in zip(of, without, strict=True)]
                middle = timing.quartiles(shares)[1]
                results[f"{kind}-{mode}"]["share_in_norms"] = middle
    return {**entry, "results": results}


def table(report: dict[str, Any]) -> str:
    """Returns the report as text."""
    rows = [
        ["model", "norms", "step ms", "faster x", "in norms", "peak MiB", "first s"]
    ]
    for entry in report["models"]:
        for label, result in entry["results"].items():
            kind, mode = label.split("-")
            rival = entry["results"].get(f"keras-{mode}")
            faster = share = "-"
            if kind == "fusednorm" and rival:
                faster = f"{rival['median_us'] / result['median_us']:.2f}"
            if "share_in_norms" in result:
                share = f"{result['share_in_norms']:.0%}"
            peak = result["peak_extra_bytes"]
            rows.append(
                [
                    entry["model"],
                    label,
                    f"{result['median_us'] / 1e3:.1f}",
                    faster,
                    share,
                    "-" if peak is None else f"{peak / 2**20:.0f}",
                    f"{result['first_call_ms'] / 1e3:.1f}",
                ]
            )
    lines = [records.aligned(rows, left=range(2)), ""]
    lines.append("in norms: what the step loses when they are taken out.")
    lines += [
        f"missing: {entry['model']} {name}: {why}"
        for entry in report["models"]
        for name, why in entry["absent"].items()
    ]
    lines += [f"failed: {each['model']}: {each['why']}" for each in report["failed"]]
    return "\n".join(lines)


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Returns the options."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--models", default=",".join(MODELS), help="names, comma separated"
    )
    parser.add_argument("--modes", default=",".join(MODES), help="graph,xla")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=environment.threads_available())
    parser.add_argument("--json", type=Path, default=Path("build/models.json"))
    parser.add_argument("--commit", help="where the tree is a copy without git")
    options = parser.parse_args(arguments)
    for name, known in (("models", MODELS), ("modes", MODES)):
        given = [each for each in getattr(options, name).split(",") if each]
        setattr(options, name, given)
        if unknown := [each for each in given if each not in known]:
            parser.error(f"--{name} must be of {', '.join(known)}, got {unknown}")
    return options


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures the models and prints the table."""
    options = parse(arguments)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ["CUDA_VISIBLE_DEVICES"] = "-1"
    from fusednorm.bench.machines import Cpu

    machine = Cpu(options.threads)
    report: dict[str, Any] = {
        "schema": records.SCHEMA,
        "kind": "models",
        "environment": {
            "date": environment.now(),
            **environment.commit(options.commit),
            **environment.versions("numpy", "tensorflow", "keras"),
            **machine.environment(),
        },
        "settings": {"rounds": options.rounds, "type": "float32"},
        "models": [],
        "failed": [],
    }
    code = 0
    try:
        for name in options.models:
            print(f"{name} ...", file=sys.stderr, flush=True)
            try:
                measured = measure_model(name, options.modes, options.rounds, machine)
                report["models"].append(measured)
            except Exception as error:
                why = records.one_line(error)
                report["failed"].append({"model": name, "why": why})
                code = 1
            records.write(options.json, report)
    except KeyboardInterrupt:
        print("interrupted: keeping what was measured", file=sys.stderr)
        code = 130
    records.write(options.json, report)
    print(table(report))
    print(f"written to {options.json}")
    return code


if __name__ == "__main__":
    sys.exit(main())
