"""What the tests share that fold an Add before a norm into it."""

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
