"""Norms by name, beside the same made of TensorFlow's own ops."""

import math

import fusednorm
import numpy as np
import pytest
import tensorflow as tf

# Written out: tf.nn.gelu and tf.nn.leaky_relu have float32 constants in float64.
COMPOSED_ACTIVATIONS = {
    "none": lambda z: z,
    "relu": tf.nn.relu,
    "leaky_relu": lambda z: tf.where(z > 0, z, z * tf.constant(0.2, z.dtype)),
    "silu": lambda z: z * tf.sigmoid(z),
    "gelu": lambda z: z * 0.5 * (1 + tf.math.erf(z / math.sqrt(2))),
    "gelu_tanh": lambda z: (
        z * 0.5 * (1 + tf.tanh(math.sqrt(2 / math.pi) * (z + 0.044715 * z**3)))
    ),
    "tanh": tf.tanh,
    "sigmoid": tf.sigmoid,
}

# name -> (function of x, gamma, beta and options; shape of x; axes reduced after
# splitting the channels; split of the channel axis; shape of gamma to broadcast)
CASES = {
    "group, last": (
        lambda x, g, b, **k: fusednorm.group_norm(x, g, b, groups=2, **k),
        (2, 3, 6),
        (2, 3, 2, 3),
        (1, 3),
        (1, 1, 2, 3),
    ),
    "group, first": (
        lambda x, g, b, **k: fusednorm.group_norm(x, g, b, groups=2, axis=1, **k),
        (2, 4, 5),
        (2, 2, 2, 5),
        (2, 3),
        (1, 2, 2, 1),
    ),
    "group, middle": (
        lambda x, g, b, **k: fusednorm.group_norm(x, g, b, groups=2, axis=2, **k),
        (2, 2, 4, 3),
        (2, 2, 2, 2, 3),
        (1, 3, 4),
        (1, 1, 2, 2, 1),
    ),
    "instance": (
        lambda x, g, b, **k: fusednorm.instance_norm(x, g, b, **k),
        (2, 5, 3),
        (2, 5, 3),
        (1,),
        (1, 1, 3),
    ),
    "layer, last": (
        lambda x, g, b, **k: fusednorm.layer_norm(x, g, b, **k),
        (3, 17),
        (3, 17),
        (1,),
        (1, 17),
    ),
    "layer, middle": (
        lambda x, g, b, **k: fusednorm.layer_norm(x, g, b, axis=1, **k),
        (2, 5, 3),
        (2, 5, 3),
        (1,),
        (1, 5, 1),
    ),
    "layer, apart": (
        lambda x, g, b, **k: fusednorm.layer_norm(x, g, b, axis=[2, 0], **k),
        (2, 3, 4),
        (2, 3, 4),
        (0, 2),
        (2, 1, 4),
    ),
    "rms, last": (
        lambda x, g, b, **k: fusednorm.rms_norm(x, g, **k),
        (3, 7),
        (3, 7),
        (1,),
        (1, 7),
    ),
    "rms, middle": (
        lambda x, g, b, **k: fusednorm.rms_norm(x, g, axis=1, zero_centered=True, **k),
        (2, 5, 3),
        (2, 5, 3),
        (1,),
        (1, 5, 1),
    ),
}

every_case = pytest.mark.parametrize("case", CASES)


def composed(case, x, gamma, beta, residual, activation="none"):
    """Returns y, sum, mean and rstd made of TensorFlow's ops."""
    _, _, split, reduced, broadcast = CASES[case]
    total = x + residual
    s = tf.reshape(total, split)
    centred = not case.startswith("rms")
    mean = tf.reduce_mean(s, reduced, keepdims=True) * (1.0 if centred else 0.0)
    variance = tf.reduce_mean((s - mean) ** 2, reduced, keepdims=True)
    epsilon = 1e-3 if centred else 1e-6
    rstd = 1 / tf.sqrt(variance + tf.constant(epsilon, x.dtype))
    gamma = tf.reshape(gamma, broadcast) + (1.0 if case == "rms, middle" else 0.0)
    z = (s - mean) * rstd * gamma
    if centred:
        z += tf.reshape(beta, broadcast)
    y = tf.reshape(COMPOSED_ACTIVATIONS[activation](z), x.shape)
    squeezed = [tf.squeeze(each, reduced) for each in (mean, rstd)]
    return (y, total, *squeezed) if centred else (y, total, squeezed[1])


def inputs_of(case, rng, dtype=np.float64):
    shape = CASES[case][1]
    parameter_shape = [size for size in CASES[case][4] if size > 1]
    if case.startswith("group"):
        parameter_shape = [int(np.prod(parameter_shape))]
    wide = np.float64 if dtype == np.float64 else np.float32
    return [
        tf.constant(rng.normal(size=shape).astype(dtype)),
        tf.constant(rng.uniform(0.5, 2, parameter_shape).astype(wide)),
        tf.constant(rng.normal(size=parameter_shape).astype(wide)),
        tf.constant(rng.normal(size=shape).astype(dtype)),
    ]


def fused(case, x, gamma, beta, residual, activation="none"):
    """Calls the op with all its outputs."""
    return CASES[case][0](
        x, gamma, beta, residual=residual, activation=activation, return_stats=True
    )


AFFINE = {
    "none": (False, False),
    "scale": (True, False),
    "shift": (False, True),
    "both": (True, True),
}
