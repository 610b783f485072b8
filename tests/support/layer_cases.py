"""Layers, weights and comparisons that the tests of layers share."""

import fusednorm
import ml_dtypes
import numpy as np
import pytest
import tensorflow as tf
from fusednorm._keras import LEGACY

from support import bounds, reference
from support.reference import Norm

# Two float32 computations of a norm and of what follows it agree to this. In these
# tests no intermediate exceeds 16 (|x| rstd |gamma| <= 5 * 2, |beta| <= 2), and both
# sides make fewer than 12 roundings of 2^-24 of it. Keras makes most of them: it adds
# x * inv and -mean * inv * gamma + beta, which may cancel.
AGREE = 2 * 12 * 16 * 2.0**-24

LAYERS = {
    "group": lambda **kwargs: fusednorm.GroupNormalization(4, **kwargs),
    "instance": fusednorm.InstanceNormalization,
    "layer": fusednorm.LayerNormalization,
    "rms": fusednorm.RMSNormalization,
}

AFFINE = [kind for kind in LAYERS if kind != "rms"]
every_layer = pytest.mark.parametrize("kind", LAYERS)
every_affine_layer = pytest.mark.parametrize("kind", AFFINE)
keras_3_only = pytest.mark.skipif(LEGACY, reason="tf_keras has nothing like it")
tf_keras_only = pytest.mark.skipif(
    not LEGACY, reason="of tf_keras, with which modes/test_legacy_keras.py runs it"
)


def data(rng, shape, dtype=np.float32):
    return rng.uniform(-2, 2, shape).astype(dtype)


def name_of(weight):
    """Returns `gamma` for what tf_keras calls `group_normalization/gamma:0`."""
    return weight.name.rpartition("/")[2].partition(":")[0]


def dtype_of(weight):
    return tf.as_dtype(weight.dtype).name


def built(layer, shape, rng):
    """Builds a layer and gives it weights with which order and place matter."""
    if not layer.built:
        layer.build((None, *shape[1:]))
    for weight in layer.weights:
        low = -2 if name_of(weight) == "beta" else 0.5
        weight.assign(rng.uniform(low, 2, weight.shape))
    return layer


def norm_of(layer):
    """Returns which norm the reference has to compute."""
    options = {"epsilon": layer.epsilon, "activation": layer.activation or "none"}
    axes = tuple(layer.axis) if isinstance(layer.axis, list | tuple) else (layer.axis,)
    if isinstance(layer, fusednorm.GroupNormalization):
        return Norm("group_norm", axes, layer.groups, **options)
    if isinstance(layer, fusednorm.LayerNormalization):
        return Norm("layer_norm", axes, **options)
    return Norm("rms_norm", axes, zero_centered=layer.zero_centered, **options)


def share_of_bound(layer, x, y):
    """Returns how much of its bound (bounds.py) the error of `y` takes."""
    norm = norm_of(layer)
    exact = reference.forward(norm, x, *layer.get_weights())
    y = np.asarray(y)
    return bounds.relative_to(bounds.forward(norm, exact, y.dtype), y, exact.y)


BFLOAT16 = ml_dtypes.bfloat16


def export(model, path):
    model.export(path, **({} if LEGACY else {"verbose": False}))
