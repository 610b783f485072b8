"""The input of a layer: what a layer can be built for, and what it was built for."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from fusednorm._checks.arguments import is_integer
from fusednorm._checks.axes import plain
from fusednorm._checks.shapes import Shape, as_tuple, compatible, static


def one_tensor(shape: Any) -> None:
    """Checks that what a layer is built for is the shape of one tensor."""
    if isinstance(shape, tf.TensorShape) or (
        isinstance(shape, list | tuple)
        and all(size is None or is_integer(size) for size in shape)
    ):
        return
    raise ValueError(
        f"The layer must be called with one tensor. Received: shape={shape}"
    )


def images(shape: Shape) -> None:
    """Checks that the input is a batch of images."""
    if len(shape) != 4:
        raise ValueError(
            "The input must be images, of shape (batch, height, width, channels). "
            f"Received: shape={as_tuple(shape)}"
        )


def known(dimensions: Shape, axis: Any, shape: Shape) -> tuple[int, ...]:
    """Returns the dimensions of a layer's weights, which must all be known.

    Args:
        dimensions: Those of `shape` along `axis`.
        axis: The axes that the weights span, as the user gave them.
        shape: The shape of the input.
    """
    if any(dimension is None for dimension in dimensions):
        raise ValueError(
            "The normalized axes of the input must have known dimensions. Received: "
            f"axis={plain(axis)}, shape={as_tuple(shape)}"
        )
    return tuple(dimensions)


def built_for(x: tf.Tensor, axis: Any, axes: Sequence[int], *weights: Any) -> None:
    """Checks that the normalized dimensions of an input are those of the weights.

    Args:
        x: The input.
        axis: The normalized axes, as the user gave them.
        axes: The same axes in increasing order.
        *weights: The layer's weights, all of one shape. One may be `None`.
    """
    weight = next((each for each in weights if each is not None), None)
    shape = static(x)
    if weight is None or shape is None:
        return
    if not compatible([shape[each] for each in axes], weight.shape):
        raise ValueError(
            "The input must have the dimensions that the layer was built for, "
            f"{as_tuple(weight.shape)} along axis={plain(axis)}. Received: "
            f"shape={as_tuple(shape)}"
        )


def positions(shape: Shape | None, channels: int) -> None:
    """Checks that the variance of the channels can be told from an input.

    The variance that the running statistics take has one less than the number of
    positions as its denominator.
    """
    if shape is None or None in shape or 0 in shape:
        return
    if math.prod(shape[1:]) == channels:
        raise ValueError(
            "The variance of one position is unknown: with `track_running_stats=True` "
            "the input must have more than one position per channel while training. "
            f"Received: shape={as_tuple(shape)}"
        )
