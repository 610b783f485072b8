"""The mask: which positions the statistics of a group norm are of."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from fusednorm._checks.shapes import as_tuple, static


def of_positions(value: Any, x: tf.Tensor, axis: int) -> tf.Tensor:
    """Returns a mask as a tensor of the shape of `x` without the channel axis.

    Args:
        value: A boolean tensor of the shape of `x` without the channel axis, or of the
            first axes of that shape. Axes of size 1 are broadcast. The channel axis may
            be there too, of size 1.
        x: The input.
        axis: The channel axis.
    """
    if not isinstance(value, tf.Tensor):
        value = tf.convert_to_tensor(value)
    if value.dtype is not tf.bool:
        raise ValueError(
            "Argument `mask` must be boolean; convert it, for example with "
            f"`tf.cast(mask, tf.bool)`. Received: dtype={value.dtype.name}"
        )
    shape = static(x)
    given = static(value)
    if shape is None or given is None:
        return value
    axis %= len(shape)
    expected = shape[:axis] + shape[axis + 1 :]
    if len(given) == len(shape) and given[axis] == 1:
        value = tf.squeeze(value, axis)
        given = static(value)
    fits = 0 < len(given) <= len(expected) and all(
        size in (1, wanted, None) or wanted is None
        for size, wanted in zip(given, expected, strict=False)
    )
    if not fits:
        raise ValueError(
            "Argument `mask` must have the shape of `x` without the channel axis, "
            f"{as_tuple(expected)}, or its first axes. Received: "
            f"shape={as_tuple(given)} (axis={axis} of shape "
            f"{as_tuple(shape)})"
        )
    if len(given) == len(expected) and all(
        size != 1 or wanted == 1 for size, wanted in zip(given, expected, strict=True)
    ):
        return value
    sizes = tf.shape(x)
    positions = tf.concat([sizes[:axis], sizes[axis + 1 :]], 0)
    rest = [1] * (len(expected) - len(given))
    value = tf.reshape(value, tf.concat([tf.shape(value), rest], 0))
    return tf.ensure_shape(tf.broadcast_to(value, positions), expected)
