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


class Losses(keras.callbacks.Callback):
    """Notes the loss of every batch."""

    def __init__(self):
        super().__init__()
        self.values = []

    def on_train_batch_begin(self, batch, logs=None):
        # Keras reports the mean of all batches since the metrics began.
        self.model.reset_metrics()

    def on_train_batch_end(self, batch, logs=None):
        self.values.append(logs["loss"])


def fit(model, x, labels, batch_size, epochs=1):
    """Calls `fit` and returns the loss of each batch. The batches are in order."""
    losses = Losses()
    model.fit(
        x,
        labels,
        batch_size=batch_size,
        epochs=epochs,
        shuffle=False,
        verbose=0,
        callbacks=[losses],
    )
    return np.array(losses.values)
