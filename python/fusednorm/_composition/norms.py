"""The three norms, with the arguments and the results of the generated op wrappers.

A caller can use this module in the place of the module of the ops.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from fusednorm._composition.arithmetic import normalize
from fusednorm._composition.views import (
    Tensors,
    axes_parameter_shape,
    group_view,
    reshape,
    restored,
)


def fusednorm_group_norm(
    *,
    x: tf.Tensor,
    gamma: Tensors,
    beta: Tensors,
    residual: Tensors,
    groups: int,
    axis: int = -1,
    mask: Tensors = (),
    per_sample: bool = False,
    per_position: bool = False,
    name: str = "group_norm",
    **options: Any,
) -> tuple[tf.Tensor, list[tf.Tensor], tf.Tensor, tf.Tensor]:
    """Returns y, sum, mean and rstd; see the op for the arguments."""
    with tf.name_scope(name):
        sums, x = _sum(x, residual)
        view, g = group_view(x, groups, axis)
        y, *statistics = normalize(
            reshape(x, view),
            reduced=[*range(1, g), *range(g + 1, len(view))],
            parameter_shape=view
            if per_position
            else [
                *([view[0], *[1] * (g - 1)] if per_sample else []),
                *view[g : g + 2],
                *[1] * (len(view) - g - 2),
            ],
            # The mask has one channel, which stands for all groups and their channels.
            mask=[tf.reshape(m, [*view[:g], 1, 1, *view[g + 2 :]]) for m in mask],
            gamma=gamma,
            beta=beta,
            **options,
        )
        return (restored(y, x), sums, *statistics)


def fusednorm_layer_norm(
    *,
    x: tf.Tensor,
    gamma: Tensors,
    beta: Tensors,
    residual: Tensors,
    axes: Sequence[int],
    per_sample: bool = False,
    per_position: bool = False,
    name: str = "layer_norm",
    **options: Any,
) -> tuple[tf.Tensor, list[tf.Tensor], tf.Tensor, tf.Tensor]:
    """Returns y, sum, mean and rstd; see the op for the arguments."""
    with tf.name_scope(name):
        sums, x = _sum(x, residual)
        y, *statistics = normalize(
            x,
            reduced=list(axes),
            parameter_shape=axes_parameter_shape(x, axes, per_sample, per_position),
            gamma=gamma,
            beta=beta,
            **options,
        )
        return (y, sums, *statistics)


def fusednorm_rms_norm(
    *,
    x: tf.Tensor,
    gamma: Tensors,
    residual: Tensors,
    axes: Sequence[int],
    per_sample: bool = False,
    per_position: bool = False,
    name: str = "rms_norm",
    **options: Any,
) -> tuple[tf.Tensor, list[tf.Tensor], tf.Tensor]:
    """Returns y, sum and rstd; see the op for the arguments."""
    with tf.name_scope(name):
        sums, x = _sum(x, residual)
        y, rstd = normalize(
            x,
            reduced=list(axes),
            parameter_shape=axes_parameter_shape(x, axes, per_sample, per_position),
            gamma=gamma,
            beta=[],
            centred=False,
            **options,
        )
        return y, sums, rstd


BY_KIND = {
    "group_norm": fusednorm_group_norm,
    "layer_norm": fusednorm_layer_norm,
    "rms_norm": fusednorm_rms_norm,
}


def _sum(x: tf.Tensor, residual: Tensors) -> tuple[list[tf.Tensor], tf.Tensor]:
    """Returns the output `sum`, rounded to the data's type, and what is normalized."""
    sums = [x + each for each in residual]
    return sums, (sums[0] if sums else x)
