"""A small model with every norm, and its training by `fit`, batch by batch."""

import fusednorm
import keras
import numpy as np

INPUT_SHAPE = (6, 6, 4)
CLASSES = 3


def small_model(policy="float32", norm_policy=None):
    """Returns the model; its norms may have a dtype policy of their own."""
    plain = {"dtype": keras.DTypePolicy(policy)}
    norm = {"dtype": keras.DTypePolicy(norm_policy or policy)}
    return keras.Sequential(
        [
            keras.Input(INPUT_SHAPE),
            keras.layers.Conv2D(8, 3, padding="same", **plain),
            fusednorm.GroupNormalization(4, activation="silu", **norm),
            fusednorm.InstanceNormalization(**norm),
            keras.layers.Reshape((36, 8), **plain),
            keras.layers.Dense(8, **plain),
            fusednorm.RMSNormalization(**norm),
            keras.layers.GlobalAveragePooling1D(**plain),
            fusednorm.LayerNormalization(activation="gelu", **norm),
            keras.layers.Dense(CLASSES, **plain),
            keras.layers.Activation("linear", dtype="float32"),
        ]
    )


def compiled(model, weights, optimizer):
    """Gives a model its weights and what `fit` needs."""
    model.set_weights(weights)
    model.compile(
        optimizer, keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    )
    return model


def fit(model, x, labels, batch_size, epochs=1):
    """Calls `fit` for one batch at a time, and returns the loss of each.

    In an epoch of several, it reports the mean of all batches up to then.
    """
    losses = []
    for start in list(range(0, len(x), batch_size)) * epochs:
        rows = slice(start, start + batch_size)
        history = model.fit(x[rows], labels[rows], batch_size=batch_size, verbose=0)
        losses += history.history["loss"]
    return np.array(losses)
