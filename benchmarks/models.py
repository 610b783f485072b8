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

KINDS = ("keras", "fusednorm", "none")
MODES = ("graph", "xla")
# Of the first losses, relative: the same weights, other orders of summation.
LOSS_TOLERANCE = 1e-4
LEARNING_RATE = 1e-3


class Norms:
    """Makes the norms of one kind, as functions of Keras tensors."""

    def __init__(self, kind: str):
        self.kind = kind

    def _activated(self, make: str, activation: str, **options: Any) -> Any:
        """Returns a norm and its activation: two layers, one layer, or no norm."""
        import fusednorm
        import keras

        if self.kind == "fusednorm":
            return getattr(fusednorm, make)(activation=activation, **options)
        after = keras.layers.Activation(activation)
        if self.kind == "none":
            return after
        norm = getattr(keras.layers, make)(**options)
        return lambda x: after(norm(x))

    def group(self, activation: str) -> Any:
        """Returns GroupNorm of 32 groups."""
        return self._activated("GroupNormalization", activation, groups=32)

    def instance(self, activation: str) -> Any:
        """Returns InstanceNorm."""
        return self._activated("GroupNormalization", activation, groups=-1)

    def layer(self) -> Any:
        """Returns LayerNorm."""
        import fusednorm
        import keras

        if self.kind == "none":
            return lambda x: x
        module = fusednorm if self.kind == "fusednorm" else keras.layers
        return module.LayerNormalization()

    def rms_of_sum(self) -> Any:
        """Returns (x, residual) -> (RMSNorm of their sum, the sum)."""
        import keras

        if self.kind == "fusednorm":
            return _fused_rms_of_sum()
        norm = (lambda x: x) if self.kind == "none" else keras.layers.RMSNormalization()

        def function(x: Any, residual: Any) -> Any:
            total = x + residual
            return norm(total), total

        return function


def _fused_rms_of_sum() -> Any:
    import fusednorm
    import keras

    class RmsOfSum(keras.layers.Layer):
        """RMSNorm of a sum, in one op."""

        def build(self, x_shape: Any, residual_shape: Any) -> None:
            """Creates the scale."""
            self.scale = self.add_weight(shape=x_shape[-1:], initializer="ones")

        def call(self, x: Any, residual: Any) -> Any:
            """Returns the norm and the sum."""
            return fusednorm.rms_norm(x, self.scale.value, residual=residual)

        def compute_output_shape(self, x_shape: Any, residual_shape: Any) -> Any:
            """Returns the shapes of the norm and of the sum."""
            return x_shape, residual_shape

    return RmsOfSum()


def _conv(x: Any, filters: int, size: int = 3, strides: int = 1) -> Any:
    import keras

    return keras.layers.Conv2D(filters, size, strides, padding="same", use_bias=False)(
        x
    )


def unet(norms: Norms) -> Any:
    """Returns a U-Net of residual blocks with GroupNorm and SiLU."""
    import keras

    def block(x: Any, filters: int) -> Any:
        h = _conv(norms.group("silu")(x), filters)
        h = _conv(norms.group("silu")(h), filters)
        return h + (x if x.shape[-1] == filters else _conv(x, filters, 1))

    inputs = keras.Input((32, 32, 4))
    x = _conv(inputs, 64)
    skips = []
    for filters in (64, 128):
        x = block(x, filters)
        skips.append(x)
        x = _conv(x, filters, strides=2)
    x = block(x, 128)
    for filters in (128, 64):
        x = keras.layers.UpSampling2D()(x)
        x = keras.layers.Concatenate()([x, skips.pop()])
        x = block(x, filters)
    return keras.Model(inputs, _conv(norms.group("silu")(x), 4))


def resnet18(norms: Norms) -> Any:
    """Returns a ResNet-18 with GroupNorm instead of BatchNorm."""
    import keras

    def block(x: Any, filters: int, strides: int) -> Any:
        h = norms.group("relu")(_conv(x, filters, strides=strides))
        h = norms.group("linear")(_conv(h, filters))
        if strides > 1:
            x = _conv(x, filters, 1, strides)
        return keras.layers.Activation("relu")(h + x)

    inputs = keras.Input((64, 64, 3))
    x = norms.group("relu")(_conv(inputs, 64, 7, 2))
    x = keras.layers.MaxPooling2D()(x)
    for filters in (64, 128, 256, 512):
        x = block(x, filters, 1 if filters == 64 else 2)
        x = block(x, filters, 1)
    x = keras.layers.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, keras.layers.Dense(100)(x))


def cyclegan(norms: Norms) -> Any:
    """Returns CycleGAN's generator, with half of its filters and four blocks."""
    import keras

    def up(x: Any, filters: int) -> Any:
        return keras.layers.Conv2DTranspose(
            filters, 3, 2, padding="same", use_bias=False
        )(x)

    inputs = keras.Input((128, 128, 3))
    x = norms.instance("relu")(_conv(inputs, 32, 7))
    for filters in (64, 128):
        x = norms.instance("relu")(_conv(x, filters, strides=2))
    for _ in range(4):
        h = norms.instance("relu")(_conv(x, 128))
        h = norms.instance("linear")(_conv(h, 128))
        x = x + h
    for filters in (64, 32):
        x = norms.instance("relu")(up(x, filters))
    return keras.Model(inputs, keras.layers.Activation("tanh")(_conv(x, 3, 7)))


TOKENS, WIDTH, HEADS, LAYERS = 128, 256, 4, 4


def _attention(x: Any) -> Any:
    import keras

    return keras.layers.MultiHeadAttention(HEADS, WIDTH // HEADS)(x, x)


def _feed_forward(x: Any) -> Any:
    import keras

    x = keras.layers.Dense(4 * WIDTH, activation="gelu")(x)
    return keras.layers.Dense(WIDTH)(x)


def transformer_layer_norm(norms: Norms) -> Any:
    """Returns a pre-norm Transformer of four layers with LayerNorm."""
    import keras

    inputs = x = keras.Input((TOKENS, WIDTH))
    for _ in range(LAYERS):
        x = x + _attention(norms.layer()(x))
        x = x + _feed_forward(norms.layer()(x))
    return keras.Model(inputs, norms.layer()(x))


def transformer_rms_norm(norms: Norms) -> Any:
    """Returns the same with RMSNorm, each of the sum with the residual."""
    import keras

    inputs = total = keras.Input((TOKENS, WIDTH))
    h = keras.layers.Dense(WIDTH)(inputs)
    for _ in range(LAYERS):
        y, total = norms.rms_of_sum()(h, total)
        h = _attention(y)
        y, total = norms.rms_of_sum()(h, total)
        h = _feed_forward(y)
    y, _ = norms.rms_of_sum()(h, total)
    return keras.Model(inputs, y)


# name -> (model of norms, batch)
MODELS: dict[str, tuple[Callable[[Norms], Any], int]] = {
    "unet": (unet, 4),
    "resnet18-gn": (resnet18, 8),
    "cyclegan": (cyclegan, 1),
    "transformer-ln": (transformer_layer_norm, 4),
    "transformer-rms": (transformer_rms_norm, 4),
}


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
                why = f"{type(error).__name__}: {error}".splitlines()[0]
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
