"""The scale and offset that a layer is called with, together with its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import tensorflow as tf

from fusednorm import _checks


@dataclass(frozen=True)
class Affine:
    """A scale and an offset after a norm, as the functional API takes them.

    Attributes:
        gamma: The scale, if there is one.
        beta: The offset, if there is one.
        zero_centered: Whether the scale is `1 + gamma`.
    """

    gamma: Any = None
    beta: Any = None
    zero_centered: bool = False

    def __bool__(self) -> bool:
        """Returns whether there is a scale or an offset."""
        return self.gamma is not None or self.beta is not None


_NONE = Affine()


def given(inputs: Any, gamma: Any, beta: Any, zero_centered: bool) -> Affine:
    """Returns the scale and offset of a layer's call, as tensors.

    Raises:
        ValueError: if one of them is given and the input is ragged.
    """
    if gamma is None and beta is None:
        return _NONE
    gamma, beta = (
        None if each is None else tf.convert_to_tensor(each) for each in (gamma, beta)
    )
    affine = Affine(gamma, beta, bool(zero_centered))
    if isinstance(inputs, tf.RaggedTensor):
        raise ValueError(
            "Arguments `gamma` and `beta` of the call must not be given where the "
            f"input is ragged. Received: input of shape {tuple(inputs.shape)}"
        )
    return affine


def combined(
    own: Affine, outer: Affine, x: tf.Tensor, axis: int | Sequence[int]
) -> Affine:
    """Returns the one scale and offset that have the effect of two in a row.

    Args:
        own: The first, of a layer's weights: the same for all samples.
        outer: The second, of the layer's call: for all samples, for each sample or for
            each position.
        x: The input.
        axis: The normalized axes.

    Raises:
        ValueError: if both are there, and the second does not fit the input or the rank
            of the input is unknown.
    """
    if not outer:
        return own
    if not own:
        return outer
    if x.shape.rank is None:
        raise ValueError(
            "Arguments `gamma` and `beta` of the call of a layer with weights of its "
            "own need an input of known rank. Received: an input of unknown rank"
        )
    dtype = tf.float64 if x.dtype is tf.float64 else tf.float32
    axes, _ = _checks.axes.normalized(axis, x.shape.rank)
    parameters = _checks.parameters.checked(outer.gamma, outer.beta, x, axis, axes)
    outer = Affine(
        next(iter(parameters.gamma), None),
        next(iter(parameters.beta), None),
        outer.zero_centered,
    )

    def spread(value: Any) -> tf.Tensor | None:
        """Returns a parameter with as many axes as `x`."""
        if value is None:
            return None
        value = tf.cast(value, dtype)
        kept = axes if value.shape.rank == len(axes) else (0, *axes)
        if value.shape.rank == x.shape.rank:
            return value
        for each in range(x.shape.rank):
            if each not in kept:
                value = tf.expand_dims(value, each)
        return value

    def factor(affine: Affine) -> tf.Tensor:
        gamma = spread(affine.gamma)
        if gamma is None:
            return tf.ones([], dtype)
        return 1 + gamma if affine.zero_centered else gamma

    gamma, beta = factor(own) * factor(outer), spread(outer.beta)
    if own.beta is not None:
        offset = spread(own.beta) * factor(outer)
        beta = offset if beta is None else offset + beta
    if gamma.shape.rank == 0:
        return Affine(None, beta)
    if beta is not None:
        # The ops want gamma and beta both for all samples, both for each sample or both
        # for each position. So each gets the shape that the two have together.
        gamma, beta = gamma + tf.zeros_like(beta), beta + tf.zeros_like(gamma)
    return Affine(gamma, beta)
