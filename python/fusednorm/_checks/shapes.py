"""Static shapes: how the checks read, compare and print them."""

from __future__ import annotations

from collections.abc import Sequence

import tensorflow as tf

Shape = Sequence[int | None]


def static(x: tf.Tensor | tf.Variable) -> list[int | None] | None:
    """Returns the static shape of a tensor, or `None` if its rank is unknown."""
    shape = x.shape
    return None if shape.rank is None else shape.as_list()


def compatible(shape: Shape, expected: Shape) -> bool:
    """Returns whether two shapes may be the same one, as far as they are known."""
    return len(shape) == len(expected) and all(
        size == wanted or size is None or wanted is None
        for size, wanted in zip(shape, expected, strict=True)
    )


def as_tuple(shape: Shape) -> str:
    """Returns a shape as errors print it: a tuple, with None where it is unknown."""
    return str(tuple(shape))
