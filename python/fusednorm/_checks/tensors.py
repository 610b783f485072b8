"""The input and the residual: that they are dense, floating-point and alike."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from fusednorm._checks.shapes import Shape, as_tuple, compatible, static

_FLOATS = (tf.float32, tf.float16, tf.bfloat16, tf.float64)


def data(x: Any, name: str = "x") -> tf.Tensor:
    """Returns `x` as a dense floating-point tensor."""
    if not isinstance(x, tf.Tensor):
        if isinstance(x, tf.RaggedTensor | tf.SparseTensor):
            raise ValueError(
                f"Argument `{name}` must be a dense tensor; convert it with "
                "`x.to_tensor()` or `tf.sparse.to_dense(x)`, or normalize its "
                f"values. Received: {name}={x}"
            )
        x = tf.convert_to_tensor(x)
    floating(x.dtype, name)
    return x


def floating(dtype: Any, name: str = "x") -> None:
    """Checks the dtype of the input.

    Integers are refused: the result would have to be rounded to integers, or be in a
    floating-point type that nobody has chosen.
    """
    dtype = tf.as_dtype(dtype)
    if dtype not in _FLOATS:
        raise ValueError(
            f"Argument `{name}` must have a floating-point dtype (float16, bfloat16, "
            "float32 or float64); convert it, for example with `tf.cast(x, "
            f"tf.float32)`. Received: dtype={dtype.name}"
        )


def residual(value: Any, x: tf.Tensor) -> tf.Tensor:
    """Returns the residual as a tensor of the dtype and shape of `x`."""
    if not isinstance(value, tf.Tensor):
        dtype = None if hasattr(value, "dtype") else x.dtype
        value = tf.convert_to_tensor(value, dtype=dtype)
    if value.dtype is not x.dtype or not value.shape.is_compatible_with(x.shape):
        raise ValueError(
            "Argument `residual` must have the shape and dtype of `x`, "
            f"{_described(x)}. Received: {_described(value)}"
        )
    return value


def residual_shape(shape: Shape | None, expected: Shape | None) -> None:
    """Checks the shape of a layer's residual, which may be of any dtype."""
    if shape is None or expected is None or compatible(shape, expected):
        return
    raise ValueError(
        f"Argument `residual` must have the shape of the input, {as_tuple(expected)}. "
        f"Received: shape={as_tuple(shape)}"
    )


def _described(x: tf.Tensor) -> str:
    shape = static(x)
    return f"{'unknown' if shape is None else as_tuple(shape)} {x.dtype.name}"
