"""Prints digests of what the layers compute and train to, as JSON.

Run by tests/modes/test_determinism.py in processes that differ in what must not matter.
"""

import argparse
import hashlib
import json

import fusednorm
import keras
import numpy as np
import tensorflow as tf
from fusednorm import _native

# name -> (layer, its arguments, input shape). The large ones are cut into slices.
CASES = {
    "group": ("GroupNormalization", {"groups": 4}, (6, 9, 9, 12)),
    "group, sliced": ("GroupNormalization", {"groups": 2}, (1, 200, 200, 6)),
    "one group": ("GroupNormalization", {"groups": 1}, (1, 300, 300, 8)),
    "several groups": ("GroupNormalization", {"groups": 5}, (4, 40, 40, 30)),
    "instance": ("InstanceNormalization", {"axis": 1}, (5, 7, 40)),
    "layer": ("LayerNormalization", {"axis": 1}, (3, 30, 50)),
    "layer, wide": ("LayerNormalization", {"axis": 1}, (2, 30, 5000)),
    "layer, sliced": ("LayerNormalization", {}, (2, 70_001)),
    "rms": ("RMSNormalization", {}, (5000, 33)),
}
STEPS = 2


def train(name, dtype, mode):
    """Trains the weights of a layer; all else is elementwise, the same by itself."""
    layer_name, arguments, shape = CASES[name]
    rng = np.random.default_rng(1)
    x = tf.constant(rng.normal(size=shape), tf.as_dtype(dtype))
    target = tf.constant(rng.normal(size=shape), tf.as_dtype(dtype))
    policy = "float32" if dtype == "float32" else f"mixed_{dtype}"
    layer = getattr(fusednorm, layer_name)(
        **arguments, activation="silu", dtype=keras.DTypePolicy(policy)
    )
    layer.build(shape)
    weights = [weight.value for weight in layer.weights]

    def step(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = layer(x)
        gradients = tape.gradient(y, [x, *weights], output_gradients=y - target)
        for weight, gradient in zip(weights, gradients[1:], strict=True):
            weight.assign_sub(1e-3 * gradient)
        return y, *gradients

    run = tf.function(step) if mode == "graph" else step
    digest = hashlib.sha256()
    for _ in range(STEPS):
        for each in (*run(x), *weights):
            digest.update(each.numpy().tobytes())
    return digest.hexdigest()


def fit():
    """Trains a model with random weights, order and dropout."""
    keras.utils.set_random_seed(7)
    rng = np.random.default_rng(1)
    x = rng.normal(size=(48, 8, 8, 3)).astype(np.float32)
    labels = rng.integers(0, 5, 48)
    model = keras.Sequential(
        [
            keras.Input((8, 8, 3)),
            keras.layers.Conv2D(8, 3, padding="same"),
            fusednorm.GroupNormalization(4, activation="relu"),
            keras.layers.Dropout(0.2),
            fusednorm.LayerNormalization(axis=[1, 2, 3]),
            fusednorm.InstanceNormalization(),
            keras.layers.GlobalMaxPooling2D(),
            fusednorm.RMSNormalization(),
            keras.layers.Dense(5),
        ]
    )
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    losses = model.fit(x, labels, batch_size=16, epochs=2, verbose=0).history["loss"]
    assert np.isfinite(losses).all()
    weights = b"".join(weight.tobytes() for weight in model.get_weights())
    return hashlib.sha256(weights).hexdigest()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--op-determinism", action="store_true")
    options = parser.parse_args()
    tf.config.threading.set_intra_op_parallelism_threads(options.threads)
    if options.op_determinism:
        tf.config.experimental.enable_op_determinism()
    digests = {
        f"{name}, {dtype}, {mode}": train(name, dtype, mode)
        for name in CASES
        for dtype in ("float32", "float16")
        for mode in ("eager", "graph")
    }
    fitted = fit() if options.op_determinism else None
    print(json.dumps({"isa": _native.isa(), "digests": digests, "fit": fitted}))


if __name__ == "__main__":
    main()
