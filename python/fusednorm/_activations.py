"""The activations that the kernels fuse: their names, functions and formulas."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import tensorflow as tf

# Name -> TensorFlow's function of that name. `leaky_relu` has slope 0.2 and `gelu` is
# the exact (erf) form: the defaults of both Keras and tf.nn.
_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "relu": tf.nn.relu,
    "leaky_relu": tf.nn.leaky_relu,
    "silu": tf.nn.silu,
    "gelu": tf.nn.gelu,
    "gelu_tanh": functools.partial(tf.nn.gelu, approximate=True),
    "tanh": tf.math.tanh,
    "sigmoid": tf.math.sigmoid,
}
# The same functions as basic ops, which have derivatives of any order. tf.nn.gelu and
# tf.nn.leaky_relu are not used, because they have float32 constants for float64 data.
_FORMULAS: dict[str, Callable[[tf.Tensor], tf.Tensor]] = {
    "none": lambda z: z,
    "relu": tf.nn.relu,
    "leaky_relu": lambda z: tf.where(z > 0, z, 0.2 * z),
    "silu": lambda z: z * tf.sigmoid(z),
    "gelu": lambda z: 0.5 * z * (1 + tf.math.erf(z / math.sqrt(2))),
    "gelu_tanh": lambda z: (
        0.5 * z * (1 + tf.tanh(math.sqrt(2 / math.pi) * (z + 0.044715 * z * z * z)))
    ),
    "tanh": tf.tanh,
    "sigmoid": tf.sigmoid,
}
_NAMES: dict[Any, str] = {
    None: "none",
    "none": "none",
    "linear": "none",
    "swish": "silu",
    **{name: name for name in _FUNCTIONS},
}


@functools.lru_cache(maxsize=1)
def _names_of_functions() -> dict[Any, str]:
    from fusednorm._keras import keras

    of_tensorflow = {function: name for name, function in _FUNCTIONS.items()}
    of_keras = {
        getattr(keras.activations, each): name
        for each, name in _NAMES.items()
        if each is not None and hasattr(keras.activations, each)
    }
    return {**of_tensorflow, **of_keras}


def activation_name(activation: Any) -> str:
    """Returns the kernels' name of an activation.

    Args:
        activation: `None`, a name, or the Keras or `tf.nn` function of that name.

    Returns:
        One of "none", "relu", "leaky_relu", "silu", "gelu", "gelu_tanh", "tanh"
        and "sigmoid".

    Raises:
        ValueError: if the kernels do not fuse this activation.
    """
    name = None
    if activation is None or isinstance(activation, str):
        name = _NAMES.get(activation)
    elif callable(activation):
        name = _names_of_functions().get(activation)
    if name is None:
        known = ", ".join(repr(name) for name in _FUNCTIONS)
        raise ValueError(
            f"Argument `activation` must be None, 'linear' or one of {known} (or the "
            f"Keras function of that name). Received: activation={activation!r}"
        )
    return name


def apply_activation(name: str, x: tf.Tensor) -> tf.Tensor:
    """Applies a fused activation as TensorFlow ops that compute in the dtype of `x`."""
    return _FORMULAS[name](x)
