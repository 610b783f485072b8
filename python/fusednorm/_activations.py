"""The activations the kernels fuse, by name and by function."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import tensorflow as tf

# Name -> the TensorFlow function that computes the same. `leaky_relu` has slope
# 0.2 and `gelu` is the exact (erf) form: the defaults of both Keras and tf.nn.
_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "relu": tf.nn.relu,
    "leaky_relu": tf.nn.leaky_relu,
    "silu": tf.nn.silu,
    "gelu": tf.nn.gelu,
    "gelu_tanh": functools.partial(tf.nn.gelu, approximate=True),
    "tanh": tf.math.tanh,
    "sigmoid": tf.math.sigmoid,
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
    import keras

    of_tensorflow = {function: name for name, function in _FUNCTIONS.items()}
    of_keras = {
        getattr(keras.activations, name): name
        for name in _FUNCTIONS
        if hasattr(keras.activations, name)
    }
    return {**of_tensorflow, **of_keras, keras.activations.linear: "none"}


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
    """Applies a fused activation as a TensorFlow op of its own."""
    return x if name == "none" else _FUNCTIONS[name](x)
