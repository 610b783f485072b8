"""What the tests share that fold layers beside a norm into it."""

import fusednorm
import keras
import numpy as np

SHAPE = (6, 8)

# See tests/conversion/test_convert.py.
AGREE = 2.0**-16


def dense(**kwargs):
    return keras.layers.Dense(8, **kwargs)


def relative(y, expected):
    y, expected = map(np.asarray, (y, expected))
    return np.abs(y - expected).max() / np.abs(expected).max()


def convert(model, **options):
    return fusednorm.convert(model, fuse=True, verbose=False, **options)


def assert_trains_as_before(make, x, goals):
    """Trains two models from `make`, of which one is converted, and compares them."""
    trained = []
    for change in (lambda model: model, convert):
        keras.utils.set_random_seed(1)
        model = change(make())
        model.compile(keras.optimizers.SGD(0.1), keras.losses.MeanSquaredError())
        model.fit(x, goals, epochs=2, verbose=0)
        trained.append(model.get_weights())
    for a, b in zip(*trained, strict=True):
        # Steps of 0.1 times gradients below 1, which agree to AGREE.
        np.testing.assert_allclose(a, b, rtol=0, atol=2 * 0.1 * AGREE)
