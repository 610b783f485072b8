"""The shapes in which the data is normalized and the parameters broadcast."""

from __future__ import annotations

from collections.abc import Sequence

import tensorflow as tf

# Sizes that are unknown until the graph runs are tensors.
Sizes = list[int | tf.Tensor]
Tensors = Sequence[tf.Tensor]


def group_view(x: tf.Tensor, groups: int, axis: int) -> tuple[Sizes, int]:
    """Returns the sizes [N, P, G, K, Q] of `x`, and where G is among them.

    P stands for the axes between the batch and the channels, Q for those after the
    channels. Each is left out if there are no such axes.
    """
    rank = x.shape.rank
    if rank is not None:
        axis %= rank
    channels = _size(x, axis, axis + 1)
    view = [_size(x, 0, 1)]
    if axis != 1:
        view.append(_size(x, 1, axis))
    g = len(view)
    view += [channels, 1] if groups == -1 else [groups, channels // groups]
    if axis + 1 not in (0, rank):
        view.append(_size(x, axis + 1, 0))
    return view, g


def axes_parameter_shape(
    x: tf.Tensor, axes: Sequence[int], per_sample: bool, per_position: bool
) -> Sizes | tf.Tensor:
    """Returns the shape in which parameters of the axes broadcast against `x`."""
    if per_position:
        return x.shape.as_list() if x.shape.is_fully_defined() else tf.shape(x)
    rank = x.shape.rank
    if rank is None and (per_sample or axes[-1] >= 0):
        shape, rank = tf.shape(x), tf.rank(x)
        first, end = (axis % rank for axis in (axes[0], axes[-1]))
        end += 1
        outer = shape[:0]
        if per_sample:
            outer = tf.concat([shape[:1], tf.ones([first - 1], tf.int32)], 0)
        return tf.concat([outer, shape[first:end], tf.ones([rank - end], tf.int32)], 0)
    if rank is not None:
        axes = [axis % rank for axis in axes]
    end = axes[-1] + 1
    inner = [1] * (-end if end <= 0 else rank - end)
    outer = [_size(x, 0, 1), *[1] * (axes[0] - 1)] if per_sample else []
    return [*outer, *(_size(x, axis, axis + 1) for axis in axes), *inner]


def _size(x: tf.Tensor, begin: int, end: int) -> int | tf.Tensor:
    """Returns the number of elements along axes; an `end` of 0 means the last axis."""
    axes = slice(begin, end or None)
    size = x.shape[axes].num_elements()
    return tf.reduce_prod(tf.shape(x)[axes]) if size is None else size


def reshape(x: tf.Tensor, sizes: Sizes) -> tf.Tensor:
    """Returns `x` in a shape of as many elements."""
    # One unknown size may be -1, so that no op has to compute it; but not if another
    # size is 0.
    known = [size for size in sizes if isinstance(size, int)]
    if len(known) == len(sizes) - 1 and 0 not in known:
        sizes = [size if isinstance(size, int) else -1 for size in sizes]
    return tf.reshape(x, sizes)


def restored(y: tf.Tensor, x: tf.Tensor) -> tf.Tensor:
    """Returns `y` in the shape of `x`."""
    if x.shape.rank is None or x.shape.as_list().count(None) > 1:
        return tf.reshape(y, tf.shape(x))
    return reshape(y, [_size(x, axis, axis + 1) for axis in range(x.shape.rank)])
