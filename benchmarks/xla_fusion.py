"""When does XLA's own fusion of a norm win against the custom call, on the CPU?

    python benchmarks/xla_fusion.py [--rounds N]

Everything is compiled with jit_compile=True. XLA sees Keras's norm as arithmetic, which
it fuses with the operations around it; fusednorm's norm is a custom call, which it
cannot look into. `activation=` and `residual=` put those operations into the call.
Prints a Markdown table with the medians of interleaved rounds: forward, and a step
with all gradients.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # Read when TensorFlow is imported.

import fusednorm
import keras
import numpy as np
import tensorflow as tf

Call = Callable[..., Any]

# Name -> (shape, Keras's layer, our function).
NORMS: dict[str, tuple[tuple[int, ...], Call, Call]] = {
    "LayerNorm": (
        (4096, 1024),
        lambda: keras.layers.LayerNormalization(),
        lambda x, gamma, beta, **options: fusednorm.layer_norm(
            x, gamma, beta, **options
        ),
    ),
    "LayerNorm, short rows": (
        (65536, 64),
        lambda: keras.layers.LayerNormalization(),
        lambda x, gamma, beta, **options: fusednorm.layer_norm(
            x, gamma, beta, **options
        ),
    ),
    "RMSNorm": (
        (4096, 1024),
        lambda: keras.layers.RMSNormalization(),
        lambda x, gamma, beta, **options: fusednorm.rms_norm(x, gamma, **options),
    ),
    "GroupNorm": (
        (4, 64, 64, 256),
        lambda: keras.layers.GroupNormalization(32),
        lambda x, gamma, beta, **options: fusednorm.group_norm(
            x, gamma, beta, groups=32, **options
        ),
    ),
}


def competitors(norm: str, around: str) -> dict[str, Call]:
    """Returns name -> the call of `x, residual, gamma, beta` that is to be timed.

    Args:
        norm: A key of NORMS.
        around: "alone", "silu" after it, or "residual" added before it, whose sum is
            a result as well.
    """
    shape, make_layer, function = NORMS[norm]
    layer = make_layer()
    layer.build(shape)

    def theirs(x: Any, gamma: Any, beta: Any) -> Any:
        values = [gamma, beta][: len(layer.trainable_variables)]
        return layer.stateless_call(values, [], x)[0]

    def surrounded(inner: Call) -> Call:
        def call(x: Any, residual: Any, gamma: Any, beta: Any) -> Any:
            if around == "residual":
                total = x + residual
                return inner(total, gamma, beta), total
            y = inner(x, gamma, beta)
            return tf.nn.silu(y) if around == "silu" else y

        return call

    calls = {"keras": surrounded(theirs), "ours": surrounded(function)}
    if around == "silu":
        calls["fused"] = lambda x, residual, gamma, beta: function(
            x, gamma, beta, activation="silu"
        )
    if around == "residual":
        calls["fused"] = lambda x, residual, gamma, beta: function(
            x, gamma, beta, residual=residual
        )
    return calls


def step_of(call: Call) -> Call:
    """Returns the call with all its gradients."""

    def step(x: Any, *others: Any) -> Any:
        inputs = [x, *others]
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            outputs = tf.nest.flatten(call(*inputs))
        # x stands for the gradients of the outputs: it costs nothing to make.
        gradients = tape.gradient(outputs, inputs, output_gradients=[x] * len(outputs))
        return outputs, [each for each in gradients if each is not None]

    return step


def medians(calls: dict[str, Call], inputs: list[Any], rounds: int) -> dict[str, float]:
    """Returns the milliseconds of each call: all in turn, round after round."""
    compiled = {
        name: tf.function(call, jit_compile=True, autograph=False)
        for name, call in calls.items()
    }
    times: dict[str, list[float]] = {name: [] for name in calls}
    for index in range(rounds + 2):
        for name, call in compiled.items():
            start = time.perf_counter()
            call(*inputs)
            if index >= 2:  # the first compile and touch their memory
                times[name].append((time.perf_counter() - start) * 1e3)
    return {name: statistics.median(each) for name, each in times.items()}


def main() -> None:
    """Times all norms, alone and with what is often around them."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--rounds", type=int, default=15)
    rounds = parser.parse_args().rounds
    rng = np.random.default_rng(1)
    print(
        "| norm | around it | pass | Keras, ms | custom call, ms | fused too, ms "
        "| Keras / custom call | Keras / fused too |\n|---|---|---|---|---|---|---|---|"
    )
    for norm, (shape, _, _) in NORMS.items():
        sizes = (shape, shape, shape[-1:], shape[-1:])
        inputs = [tf.constant(rng.normal(size=s).astype(np.float32)) for s in sizes]
        for around in ("alone", "silu", "residual"):
            calls = competitors(norm, around)
            steps = {name: step_of(call) for name, call in calls.items()}
            for which, each in (("forward", calls), ("step", steps)):
                found = medians(each, inputs, rounds)
                keras_ms, ours, fused = map(found.get, ("keras", "ours", "fused"))
                print(
                    f"| {norm} {list(shape)} | {around} | {which} | {keras_ms:.2f} "
                    f"| {ours:.2f} | {f'{fused:.2f}' if fused else ''} "
                    f"| {keras_ms / ours:.2f} "
                    f"| {f'{keras_ms / fused:.2f}' if fused else ''} |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
