"""Converts three models, compares what they compute, and times both.

    python examples/convert_model.py
    python examples/convert_model.py --models saved --batch-size 8

A ConvNeXt of `keras.applications`, a GroupNormalization model from a file that Keras
has saved, and a model with the layer names of TensorFlow Addons. Weights are random.
Times are medians; the models take turns, call by call.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import fusednorm
import keras
import numpy as np
import tensorflow as tf
from keras import layers

SEED = 1
CLASSES = 10


def convnext() -> tuple[keras.Model, keras.Model]:
    """Returns ConvNeXtTiny twice, the second converted."""
    theirs, ours = (
        keras.applications.ConvNeXtTiny(weights=None, classes=CLASSES) for _ in range(2)
    )
    ours.set_weights(theirs.get_weights())
    return theirs, fusednorm.convert(ours)


def saved() -> tuple[keras.Model, keras.Model]:
    """Returns a model that Keras has saved and loaded, the second time converted."""
    model = keras.Sequential([keras.Input((64, 64, 3))], name="saved_by_keras")
    for filters in (32, 64, 128):
        model.add(layers.Conv2D(filters, 3, padding="same"))
        model.add(layers.GroupNormalization(groups=8))
        model.add(layers.Activation("silu"))
    model.add(layers.GlobalAveragePooling2D())
    model.add(layers.Dense(CLASSES, activation="softmax"))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "model.keras")
        model.save(path)
        theirs, ours = (keras.models.load_model(path) for _ in range(2))
    return theirs, fusednorm.convert(ours, fuse=True)


def addons() -> tuple[keras.Model, keras.Model]:
    """Returns a model of a configuration with Addons' names twice, one converted."""
    config = addons_config()
    loaded = keras.Sequential.from_config(
        config, custom_objects=fusednorm.custom_objects()
    )

    # Addons is no more. Keras's layer computes the same and takes the configuration, in
    # which an InstanceNormalization says how many channels it has.
    for name in ("GroupNormalization", "InstanceNormalization"):
        copy = type(name, (layers.GroupNormalization,), {})
        keras.saving.register_keras_serializable("Addons")(copy)
    theirs, ours = (keras.Sequential.from_config(config) for _ in range(2))
    for model in (loaded, ours):
        model.set_weights(theirs.get_weights())
    fusednorm.convert(ours)
    same = [type(layer) for layer in loaded.layers] == [type(x) for x in ours.layers]
    print(f"custom_objects() makes the same layers of the configuration: {same}")
    return theirs, ours


def addons_config() -> dict:
    """Returns what Keras 2 and TensorFlow Addons write for a small model."""

    def norm(name: str, groups: int) -> dict:
        return {
            "class_name": f"Addons>{name}",
            "config": {
                "name": name.lower(),
                "trainable": True,
                "dtype": "float32",
                "groups": groups,
                "axis": -1,
                "epsilon": 0.001,
                "center": True,
                "scale": True,
                "beta_initializer": {"class_name": "Zeros", "config": {}},
                "gamma_initializer": {"class_name": "Ones", "config": {}},
                "beta_regularizer": None,
                "gamma_regularizer": None,
                "beta_constraint": None,
                "gamma_constraint": None,
            },
        }

    def conv(name: str) -> dict:
        config = {"name": name, "filters": 64, "kernel_size": [3, 3]}
        return {"class_name": "Conv2D", "config": config}

    inputs = {"batch_input_shape": [None, 64, 64, 3], "dtype": "float32", "name": "x"}
    return {
        "name": "addons",
        "layers": [
            {"class_name": "InputLayer", "config": inputs},
            conv("first"),
            norm("GroupNormalization", 8),
            conv("second"),
            norm("InstanceNormalization", 64),
            {"class_name": "GlobalAveragePooling2D", "config": {"name": "pool"}},
            {"class_name": "Dense", "config": {"name": "dense", "units": CLASSES}},
            {"class_name": "Softmax", "config": {"name": "softmax"}},
        ],
    }


MODELS: dict[str, Callable[[], tuple[keras.Model, keras.Model]]] = {
    "convnext_tiny": convnext,
    "saved": saved,
    "addons": addons,
}


def medians(calls: list[Callable[[], object]], repeats: int) -> list[float]:
    """Returns the median time of each call in milliseconds; they take turns."""
    times: list[list[float]] = [[] for _ in calls]
    for repeat in range(-1, repeats):  # The first one traces, and does not count.
        # Taking turns at going first shares out what a cold cache costs.
        order = list(enumerate(calls))
        for index, call in order if repeat % 2 else reversed(order):
            start = time.perf_counter()
            call()
            if repeat >= 0:
                times[index].append(time.perf_counter() - start)
    return [1e3 * float(np.median(each)) for each in times]


def compare(theirs: keras.Model, ours: keras.Model, batch: int, repeats: int) -> None:
    """Prints by how much two models differ, and how long they take."""
    rng = np.random.default_rng(SEED)
    shape = (batch, *theirs.input_shape[1:])
    x = tf.constant(rng.uniform(0, 255, shape).astype(np.float32))
    labels = tf.constant(rng.integers(0, CLASSES, batch))
    before, after = (model(x).numpy() for model in (theirs, ours))
    gap = np.abs(after - before).max()
    print(f"largest difference {gap:.1e}, of outputs up to {np.abs(before).max():.2g}")

    for model in (theirs, ours):
        model.compile("sgd", "sparse_categorical_crossentropy")
    functions = [tf.function(model) for model in (theirs, ours)]
    rows = {
        "inference": [lambda f=f: f(x).numpy() for f in functions],
        "training step": [
            lambda m=model: m.train_on_batch(x, labels) for model in (theirs, ours)
        ],
    }
    for name, calls in rows.items():
        slow, fast = medians(calls, repeats)
        print(
            f"{name:<13} {slow:8.1f} ms before, {fast:8.1f} ms after: "
            f"{slow / fast:.2f} times as fast"
        )


def main() -> None:
    """Runs the example."""
    parser = argparse.ArgumentParser(
        description=__doc__.partition("\n")[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--batch-size", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=9)
    options = parser.parse_args()
    if options.batch_size < 1 or options.repeats < 1:
        parser.error("--batch-size and --repeats must be positive")
    for name in options.models:
        keras.utils.set_random_seed(SEED)
        print(f"== {name}")
        compare(*MODELS[name](), options.batch_size, options.repeats)
        print()


if __name__ == "__main__":
    main()
