"""A norm whose arguments have been checked, and the call of its op.

The functional API and the layers both go through here. The arguments that are no
tensors are checked once: a `Norm` is kept for the next call with the same ones.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

from fusednorm import _checks, _portable
from fusednorm._activations import activation_name
from fusednorm._checks.parameters import Parameters, ParametersOf
from fusednorm._checks.shapes import Shape

Outputs = tf.Tensor | tuple[tf.Tensor, ...]

# A model has a handful of different norms. More than this is only slower.
_MOST_KEPT = 1024


@dataclass(frozen=True)
class Norm:
    """What a norm computes for inputs of one rank.

    Attributes:
        kind: "group_norm", "layer_norm" or "rms_norm".
        axis: The channel axis, or the normalized axes, as the user gave them.
        axes: The same axes in increasing order. They count from the front, or stay as
            they were given where the rank is unknown.
        order: The permutation of the input's axes under which the op is called;
            `None` where the op takes the input as it lies.
        attributes: The attributes of the op that do not depend on tensors.
    """

    kind: str
    axis: int | list[int] | tuple[int, ...]
    axes: tuple[int, ...]
    order: tuple[int, ...] | None
    attributes: dict[str, Any]

    def parameters(self, x: tf.Tensor, gamma: Any, beta: Any) -> Parameters:
        """Returns gamma and beta as the op takes them, checked against the input."""
        return _checks.parameters.checked(gamma, beta, x, self.axis, self.axes)

    def __call__(
        self,
        x: tf.Tensor,
        parameters: Parameters,
        residual: tf.Tensor | None = None,
        mask: tf.Tensor | None = None,
        *,
        return_stats: bool = False,
        portable: bool = False,
    ) -> Outputs:
        """Calls the op on checked tensors and picks the outputs that were asked for.

        Args:
            x: The input.
            parameters: Gamma and beta, as the method `parameters` returns them.
            residual: A tensor of the shape and dtype of `x`, or `None`.
            mask: The positions that count in a group norm's statistics, of the shape of
                `x` without the channel axis; or `None`.
            return_stats: Whether to return the statistics, too.
            portable: Whether to compute with plain TensorFlow ops in any case.

        Returns:
            `y`, or a tuple of it with the sum and the statistics.
        """
        gamma, beta = parameters.gamma, parameters.beta
        residuals = [] if residual is None else [residual]
        per_position = parameters.of is ParametersOf.POSITION
        if self.order is not None:
            x, *residuals = (tf.transpose(each, self.order) for each in (x, *residuals))
            if per_position:
                gamma = [tf.transpose(each, self.order) for each in gamma]
                beta = [tf.transpose(each, self.order) for each in beta]
        inputs = {"x": x, "gamma": gamma, "residual": residuals}
        if self.kind != "rms_norm":
            inputs["beta"] = beta
        if self.kind == "group_norm":
            inputs["mask"] = [] if mask is None else [mask]
        op = getattr(_portable.op_wrappers(portable), "fusednorm_" + self.kind)
        y, sums, *statistics = op(
            **inputs,
            **self.attributes,
            per_sample=parameters.of is ParametersOf.SAMPLE,
            per_position=per_position,
            S=tf.float64 if x.dtype is tf.float64 else tf.float32,
            name=self.kind,
        )
        if self.order is not None:
            inverse = np.argsort(self.order)
            y = tf.transpose(y, inverse)
            sums = [tf.transpose(each, inverse) for each in sums]
        if return_stats:
            return (y, *sums, *statistics)
        return (y, *sums) if sums else y


def group_norm(
    shape: Shape | None,
    *,
    groups: int,
    axis: int,
    epsilon: float,
    activation: Any,
    zero_centered: bool = False,
) -> Norm:
    """Returns the group norm of these arguments.

    Args:
        shape: The static shape of the input; `None` if its rank is unknown.
        groups: As in `fusednorm.group_norm`; so are the arguments after it.
        axis: See `groups`.
        epsilon: See `groups`.
        activation: See `groups`.
        zero_centered: See `groups`.

    Raises:
        ValueError: if one of them is not valid, or does not fit the shape.
        TypeError: if `axis` is not an integer.
    """
    groups = _checks.arguments.groups(groups)
    axis = _checks.arguments.integer_axis(axis)
    if shape is not None:
        _checks.axes.channels(groups, axis, shape)
    return _group_norm(
        None if shape is None else len(shape),
        groups,
        axis,
        _checks.arguments.epsilon(epsilon),
        activation_name(activation),
        bool(zero_centered),
    )


def over_axes(
    kind: str,
    shape: Shape | None,
    *,
    axis: int | Sequence[int],
    epsilon: float,
    activation: Any,
    zero_centered: bool = False,
) -> Norm:
    """Returns the layer norm or RMS norm of these arguments.

    Args:
        kind: "layer_norm" or "rms_norm".
        shape: The static shape of the input; `None` if its rank is unknown.
        axis: As in `fusednorm.layer_norm`; so are the arguments after it.
        epsilon: See `axis`.
        activation: See `axis`.
        zero_centered: See `axis`.

    Raises:
        ValueError: if one of them is not valid, or does not fit the shape.
        TypeError: if `axis` is neither an integer nor a list or tuple of integers.
    """
    axis = _checks.arguments.integer_axes(axis)
    is_list = isinstance(axis, list)
    return _over_axes(
        kind,
        None if shape is None else len(shape),
        tuple(axis) if is_list else axis,
        is_list,
        _checks.arguments.epsilon(epsilon),
        activation_name(activation),
        bool(zero_centered),
    )


# What these two take are plain numbers and names, as the functions above make them:
# values that the cache takes for equal, such as 1 and True, mean the same.


@functools.lru_cache(_MOST_KEPT)
def _group_norm(
    rank: int | None,
    groups: int,
    axis: int,
    epsilon: float,
    activation: str,
    zero_centered: bool,
) -> Norm:
    position = axis if rank is None else _checks.axes.channel(axis, rank)
    return Norm(
        kind="group_norm",
        axis=axis,
        axes=(position,),
        order=None,
        attributes={
            "groups": groups,
            "axis": axis,
            **_common_attributes(epsilon, activation, zero_centered),
        },
    )


@functools.lru_cache(_MOST_KEPT)
def _over_axes(
    kind: str,
    rank: int | None,
    axis: int | tuple[int, ...],
    is_list: bool,
    epsilon: float,
    activation: str,
    zero_centered: bool,
) -> Norm:
    given = list(axis) if is_list else axis
    axes, contiguous = _checks.axes.normalized(given, rank)
    normalized, order = axes, None
    if not contiguous:
        order = (*(each for each in range(rank) if each not in axes), *axes)
        normalized = range(rank - len(axes), rank)
    return Norm(
        kind=kind,
        axis=given,
        axes=axes,
        order=order,
        attributes={
            "axes": list(normalized),
            **_common_attributes(epsilon, activation, zero_centered),
        },
    )


def _common_attributes(
    epsilon: float, activation: str, zero_centered: bool
) -> dict[str, Any]:
    # Attributes are float32. The second carries the rest of the double, so that
    # float64 data meets the epsilon the user wrote and not its float32 rounding.
    epsilon_high = float(np.float32(epsilon))
    return {
        "epsilon": epsilon_high,
        "epsilon_low": epsilon - epsilon_high,
        "activation": activation,
        "zero_centered": zero_centered,
    }
