"""Converts three models of KerasHub, compares what they compute, and times both.

    pip install "fusednorm[hub]"
    python examples/convert_hub.py
    python examples/convert_hub.py --models flux --jit-compile

A language model, a diffusion transformer and a vision model, with random weights and
smaller than those one can download. Times are medians of training steps, forward and
backward; original and converted take turns.
"""

import argparse
import time
from collections.abc import Callable
from typing import Any

import fusednorm
import keras
import keras_hub
import numpy as np
import tensorflow as tf

SEED = 1


def qwen3() -> tuple[keras.Model, dict[str, np.ndarray]]:
    """Returns a language model with RMS norms, also of its queries and keys."""
    model = keras_hub.models.Qwen3Backbone(
        vocabulary_size=1000,
        num_layers=6,
        num_query_heads=8,
        num_key_value_heads=4,
        head_dim=32,
        hidden_dim=256,
        intermediate_dim=512,
    )
    tokens = np.random.default_rng(SEED).integers(0, 1000, (2, 128))
    return model, {"token_ids": tokens, "padding_mask": np.ones_like(tokens)}


def flux() -> tuple[keras.Model, dict[str, np.ndarray]]:
    """Returns a diffusion transformer with layer norms and RMS norms."""
    pixels, words = 256, 64
    model = keras_hub.models.FluxBackbone(
        input_channels=64,
        hidden_size=256,
        mlp_ratio=4.0,
        num_heads=8,
        depth=2,
        depth_single_blocks=2,
        axes_dim=[8, 12, 12],
        theta=10_000,
        use_bias=True,
        image_shape=(pixels, 64),
        text_shape=(words, 64),
        image_ids_shape=(pixels, 3),
        text_ids_shape=(words, 3),
        y_shape=(64,),
    )
    rng = np.random.default_rng(SEED)
    return model, {
        name: rng.normal(size=(2, *spec.shape[1:])).astype(spec.dtype)
        for name, spec in model.input.items()
    }


def swin() -> tuple[keras.Model, np.ndarray]:
    """Returns a vision transformer with layer norms."""
    model = keras_hub.models.SwinTransformerBackbone(
        image_shape=(64, 64, 3),
        embed_dim=48,
        depths=[2, 2, 2],
        num_heads=[3, 6, 12],
        window_size=4,
        drop_path=0.0,
    )
    rng = np.random.default_rng(SEED)
    return model, rng.normal(size=(4, 64, 64, 3)).astype("float32")


MODELS = {"qwen3": qwen3, "flux": flux, "swin": swin}


def training_step(model: keras.Model, inputs: Any, jit_compile: bool) -> Callable:
    """Returns a function that calls a model and computes its gradients."""

    @tf.function(jit_compile=jit_compile)
    def step() -> Any:
        with tf.GradientTape() as tape:
            outputs = model(inputs, training=True)
            flat = [y for y in tf.nest.flatten(outputs) if y.dtype.is_floating]
            loss = sum(tf.reduce_sum(y * y) for y in flat)
        return outputs, tape.gradient(loss, [x.value for x in model.trainable_weights])

    return step


def milliseconds(steps: list[Callable], repeats: int) -> list[float]:
    """Returns the median time of each of several functions, which take turns."""
    times = np.zeros((repeats, len(steps)))
    for row in times:
        for index, step in enumerate(steps):
            start = time.perf_counter()
            step()
            row[index] = time.perf_counter() - start
    return list(1e3 * np.median(times, axis=0))


def compare(name: str, repeats: int, jit_compile: bool) -> None:
    """Converts a model, and prints what became of it."""
    keras.utils.set_random_seed(SEED)
    theirs, inputs = MODELS[name]()
    ours, _ = MODELS[name]()
    ours.set_weights(theirs.get_weights())
    fusednorm.convert(ours, inputs=inputs, verbose=False)
    report = ours.fusednorm_conversion
    for cls, (replaced, seen) in report.by_class.items():
        print(f"{name}: {replaced} of {seen} {cls}")
    print(f"{name}: largest difference of the outputs {report.difference:.1e}")
    steps = [training_step(model, inputs, jit_compile) for model in (theirs, ours)]
    for step in steps:
        step()  # Traces and compiles.
    before, after = milliseconds(steps, repeats)
    print(
        f"{name}: a training step takes {after:.1f} ms, before {before:.1f} ms: "
        f"{before / after:.2f} times as fast"
    )


def main() -> None:
    """Runs the models that were asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--repeats", type=int, default=11)
    parser.add_argument(
        "--jit-compile", action="store_true", help="compile steps with XLA"
    )
    arguments = parser.parse_args()
    for name in arguments.models:
        compare(name, arguments.repeats, arguments.jit_compile)


if __name__ == "__main__":
    main()
