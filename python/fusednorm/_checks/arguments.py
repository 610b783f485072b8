"""Arguments by themselves: numbers, and the types of axes.

Each function returns its argument as a plain Python number, list or tuple. Whether an
axis exists and whether the groups divide the channels depends on the input, which
`fusednorm._checks.axes` checks.
"""

from __future__ import annotations

import operator
from typing import Any

import tensorflow as tf

_FLOAT32_MAX = float(tf.float32.max)


def epsilon(value: Any) -> float:
    """Returns `epsilon` as a float that the kernels can use."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = -1.0
    if not 0.0 <= number <= _FLOAT32_MAX:  # This is also false for NaN.
        raise ValueError(
            "Argument `epsilon` must be a finite number >= 0. Received: "
            f"epsilon={value!r}"
        )
    return number


def update_rate(value: Any) -> float:
    """Returns the weight of new statistics as a float."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = -1.0
    if not 0.0 <= number <= 1.0:
        raise ValueError(
            "Argument `update_rate`, the weight of the new statistics, must be between "
            f"0 and 1. Received: update_rate={value!r}"
        )
    return number


def groups(value: Any) -> int:
    """Returns `groups` as an int, which is positive or -1."""
    try:
        number = 0 if isinstance(value, bool) else operator.index(value)
    except TypeError:
        number = 0
    if number < 1 and number != -1:
        raise ValueError(
            "Argument `groups` must be a positive integer, or -1 for one group per "
            f"channel. Received: groups={value!r}"
        )
    return number


def is_integer(value: Any) -> bool:
    """Returns whether a value can be an axis or a dimension, which a bool cannot."""
    return hasattr(value, "__index__") and not isinstance(value, bool)


def integer_axis(axis: Any) -> int:
    """Returns a single `axis` as an int."""
    # A tensor or array of one element also has `__index__`; taking it is harmless.
    if not is_integer(axis):
        raise TypeError(f"Argument `axis` must be an integer. Received: axis={axis!r}")
    return operator.index(axis)


def integer_channel_axis(axis: Any) -> int:
    """Returns a single `axis` as an int that is not the batch axis 0."""
    axis = integer_axis(axis)
    if axis == 0:
        raise ValueError(
            "Argument `axis` must name a channel axis, not the batch axis 0. Received: "
            "axis=0"
        )
    return axis


def integer_axes(axis: Any) -> int | list[int] | tuple[int, ...]:
    """Returns one axis as an int; a list or tuple of axes as one of plain ints."""
    if is_integer(axis):
        return operator.index(axis)
    # `list` covers the wrappers in which TensorFlow and Keras track lists.
    if not isinstance(axis, list | tuple) or not all(map(is_integer, axis)):
        raise TypeError(
            "Argument `axis` must be an integer or a list or tuple of integers. "
            f"Received: axis={axis!r}"
        )
    if not axis:
        raise ValueError(
            f"Argument `axis` must name at least one axis. Received: axis={axis!r}"
        )
    kind = tuple if isinstance(axis, tuple) else list
    return kind(operator.index(each) for each in axis)


def spatial_axes(axis: Any) -> list[int]:
    """Returns `[1, 2]`, the two axes of an image, which `axis` must be."""
    if not isinstance(axis, list | tuple) or list(axis) != [1, 2]:
        kind = ValueError if isinstance(axis, list | tuple) else TypeError
        raise kind(
            "Argument `axis` must be a list of the two spatial axes, [1, 2]. Received: "
            f"axis={axis!r}"
        )
    return [1, 2]
