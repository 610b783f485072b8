"""Axes and groups against the shape of the input that they are about."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from fusednorm._checks.shapes import Shape, as_tuple


def channel(axis: int, rank: int) -> int:
    """Returns the position of the channel axis, counted from the front."""
    position = axis + rank if axis < 0 else axis
    if not 0 < position < rank:
        raise ValueError(
            "Argument `axis` must name a channel axis, not the batch axis 0, of an "
            f"input of rank {rank}. Received: axis={axis}"
        )
    return position


def channels(groups: int, axis: int, shape: Shape) -> int | None:
    """Returns the number of channels, which `groups` must divide."""
    count = shape[channel(axis, len(shape))]
    if count is not None and groups != -1 and count % groups:
        raise ValueError(
            "Argument `groups` must divide the number of channels. Received: "
            f"groups={groups} for {count} channels (axis {axis} of shape "
            f"{as_tuple(shape)})"
        )
    return count


def plain(axis: Any) -> Any:
    """Returns axes without the wrapper in which tf_keras tracks lists."""
    return list(axis) if isinstance(axis, list) else axis


def normalized(
    axis: int | Sequence[int], rank: int | None
) -> tuple[tuple[int, ...], bool]:
    """Resolves the axes that a layer norm or an RMS norm normalizes over.

    Returns:
        The axes in increasing order, and whether they are one contiguous run. They
        count from the front; where the rank is unknown they stay as they were given.
    """
    axis = plain(axis)
    given = (axis,) if isinstance(axis, int) else axis
    if rank is None:
        axes = sorted(given)
        same_end = axes[0] >= 0 or axes[-1] < 0
    else:
        if any(not -rank <= each < rank for each in given):
            raise ValueError(
                f"Argument `axis` is out of range for an input of rank {rank}. "
                f"Received: axis={axis}"
            )
        axes = sorted(each % rank for each in given)
        same_end = True
    if len(set(axes)) < len(axes):
        raise ValueError(
            "Argument `axis` must not name an axis twice. Received: "
            f"axis={axis} for an input of rank {'unknown' if rank is None else rank}"
        )
    contiguous = axes[-1] - axes[0] == len(axes) - 1
    if rank is None and not (same_end and contiguous):
        raise ValueError(
            "Argument `axis` must name one contiguous run of axes, all counted from "
            "the same end, of an input of unknown rank. Received: "
            f"axis={axis}"
        )
    return tuple(axes), contiguous


def of_ragged(axis: int | Sequence[int], x: tf.RaggedTensor) -> list[int]:
    """Returns the axes of a ragged tensor, counted from the end.

    Counted so, they are also the axes of its flat values. They must come after the
    ragged axes: rows of any length can be normalized one by one, but a scale and an
    offset along an axis need one length for all rows.
    """
    rank = x.shape.rank
    axes, _ = normalized(axis, rank)
    if axes[0] <= x.ragged_rank:
        raise ValueError(
            "Argument `axis` must name axes of a ragged tensor after its ragged ones. "
            f"Received: axis={plain(axis)}, shape={as_tuple(x.shape)}"
        )
    return [each - rank for each in axes]


def batch_left_out(axis: Any, axes: Sequence[int]) -> None:
    """Checks axes that have parameters for each sample.

    Args:
        axis: The axes as the user gave them.
        axes: The same, as `normalized` returns them.
    """
    if 0 in axes:
        raise ValueError(
            "Argument `axis` must leave out the batch axis 0 where `gamma` and `beta` "
            f"are given for each sample. Received: axis={plain(axis)}"
        )
