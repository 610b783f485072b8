"""Checks of arguments against static shapes: the messages a user meets.

The functional API and the layers raise the same errors from here, as early as
the shapes are known. What is unknown until a graph runs, the ops check.
"""

from __future__ import annotations

import enum
import math
import operator
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

Shape = Sequence[int | None]

_FLOATS = (tf.float32, tf.float16, tf.bfloat16, tf.float64)
_FLOAT32_MAX = float(tf.float32.max)
_TENSOR_OR_VARIABLE = (tf.Tensor, tf.Variable)


def as_tuple(shape: Shape) -> str:
    """Returns a shape as errors print it: a tuple, with None where unknown."""
    return str(tuple(shape))


def static_shape(x: tf.Tensor) -> list[int | None] | None:
    """Returns the static shape of a tensor, or `None` if its rank is unknown."""
    shape = x.shape
    return None if shape.rank is None else shape.as_list()


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
    """Checks the dtype of the data.

    Integers are refused: a normalized integer would be rounded to one, or computed in
    a type that nobody has chosen.
    """
    dtype = tf.as_dtype(dtype)
    if dtype not in _FLOATS:
        raise ValueError(
            f"Argument `{name}` must have a floating-point dtype (float16, bfloat16, "
            "float32 or float64); convert it, for example with `tf.cast(x, "
            f"tf.float32)`. Received: dtype={dtype.name}"
        )


def epsilon(value: Any) -> float:
    """Returns `epsilon` as a float that the kernels can use."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = -1.0
    if not 0.0 <= number <= _FLOAT32_MAX:  # Also false for NaN.
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


def positions(shape: Shape | None, channels: int) -> None:
    """Checks that a training step can tell the variance of the channels."""
    if shape is None or None in shape or 0 in shape:
        return
    if math.prod(shape[1:]) == channels:
        raise ValueError(
            "The variance of one position is unknown: with `track_running_stats=True` "
            "the input must have more than one position per channel while training. "
            f"Received: shape={as_tuple(shape)}"
        )


def groups(value: Any) -> int:
    """Returns `groups` as an int: positive, or -1."""
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


def _is_integer(value: Any) -> bool:
    return hasattr(value, "__index__") and not isinstance(value, bool)


def integer_axis(axis: Any) -> int:
    """Returns a single `axis` as an int."""
    # A tensor or array of one element also has `__index__`; taking it is harmless.
    if not _is_integer(axis):
        raise TypeError(f"Argument `axis` must be an integer. Received: axis={axis!r}")
    return operator.index(axis)


def integer_channel_axis(axis: Any) -> int:
    """Returns a single `axis` as an int that may be one of channels."""
    axis = integer_axis(axis)
    if axis == 0:
        raise ValueError(
            "Argument `axis` must name a channel axis, not the batch axis 0. Received: "
            "axis=0"
        )
    return axis


def integer_axes(axis: Any) -> int | list[int] | tuple[int, ...]:
    """Returns an `axis` that may also be a list or tuple, with plain ints in it."""
    if _is_integer(axis):
        return operator.index(axis)
    # `list` covers the wrappers in which TensorFlow and Keras track lists.
    if not isinstance(axis, list | tuple) or not all(map(_is_integer, axis)):
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
    """Returns the two axes of an image, the only ones there are."""
    if not isinstance(axis, list | tuple) or list(axis) != [1, 2]:
        kind = ValueError if isinstance(axis, list | tuple) else TypeError
        raise kind(
            "Argument `axis` must be a list of the two spatial axes, [1, 2]. Received: "
            f"axis={axis!r}"
        )
    return [1, 2]


def images(shape: Shape) -> None:
    """Checks that the input is a batch of images."""
    if len(shape) != 4:
        raise ValueError(
            "The input must be images, of shape (batch, height, width, channels). "
            f"Received: shape={as_tuple(shape)}"
        )


def channel_axis(axis: int, shape: Shape) -> int:
    """Returns the position of a channel axis, counted from the front."""
    rank = len(shape)
    position = axis + rank if axis < 0 else axis
    if not 0 < position < rank:
        raise ValueError(
            "Argument `axis` must name a channel axis, not the batch axis 0, of an "
            f"input of rank {rank}. Received: axis={axis}"
        )
    return position


def channels(groups: int, axis: int, shape: Shape) -> int | None:
    """Returns the number of channels, which `groups` must divide."""
    count = shape[channel_axis(axis, shape)]
    if count is not None and groups != -1 and count % groups:
        raise ValueError(
            "Argument `groups` must divide the number of channels. Received: "
            f"groups={groups} for {count} channels (axis {axis} of shape "
            f"{as_tuple(shape)})"
        )
    return count


def _plain(axis: Any) -> Any:
    """Returns axes without the wrapper in which tf_keras tracks lists."""
    return list(axis) if isinstance(axis, list) else axis


def normalized_axes(
    axis: int | Sequence[int], rank: int | None
) -> tuple[tuple[int, ...], bool]:
    """Resolves the axes of a layer or RMS norm.

    Returns:
        The axes in increasing order, and whether they are one contiguous run.
        They count from the front, or stay as given where the rank is unknown.
    """
    axis = _plain(axis)
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


def uniform_axes(axis: int | Sequence[int], x: tf.RaggedTensor) -> list[int]:
    """Returns the axes of a ragged tensor, from the end, as its flat values have them.

    Rows of any length are normalized one by one; a row whose length is normalized over
    has no weights to match.
    """
    rank = x.shape.rank
    axes, _ = normalized_axes(axis, rank)
    if axes[0] <= x.ragged_rank:
        raise ValueError(
            "Argument `axis` must name axes of a ragged tensor after its ragged ones. "
            f"Received: axis={_plain(axis)}, shape={as_tuple(x.shape)}"
        )
    return [each - rank for each in axes]


def one_tensor(shape: Any) -> None:
    """Checks that what a layer is built for is the shape of one tensor."""
    if isinstance(shape, tf.TensorShape) or (
        isinstance(shape, list | tuple)
        and all(size is None or _is_integer(size) for size in shape)
    ):
        return
    raise ValueError(
        f"The layer must be called with one tensor. Received: shape={shape}"
    )


def known(dimensions: Shape, axis: Any, shape: Shape) -> tuple[int, ...]:
    """Returns the dimensions a layer's weights take, which must all be known."""
    if any(dimension is None for dimension in dimensions):
        raise ValueError(
            "The normalized axes of the input must have known dimensions. Received: "
            f"axis={_plain(axis)}, shape={as_tuple(shape)}"
        )
    return tuple(dimensions)


def built_for(x: tf.Tensor, axis: int | Sequence[int], *weights: Any) -> None:
    """Checks that the normalized dimensions of an input are those of a layer's weights.

    Args:
        x: The input.
        axis: Of the layer.
        *weights: Of one shape, or `None`.
    """
    weight = next((each for each in weights if each is not None), None)
    shape = static_shape(x)
    if weight is None or shape is None:
        return
    axes, _ = normalized_axes(axis, len(shape))
    if not _compatible([shape[each] for each in axes], weight.shape):
        raise ValueError(
            "The input must have the dimensions that the layer was built for, "
            f"{as_tuple(weight.shape)} along axis={_plain(axis)}. Received: "
            f"shape={as_tuple(shape)}"
        )


def _compatible(shape: Shape, expected: Shape) -> bool:
    return len(shape) == len(expected) and all(
        size == wanted or size is None or wanted is None
        for size, wanted in zip(shape, expected, strict=True)
    )


class ParametersOf(enum.Enum):
    """What gamma and beta may differ between."""

    ALL = "for all"  # Nothing: they are the same for all samples.
    SAMPLE = "for each sample"
    POSITION = "for each position"


def parameters_of(
    parameters: dict[str, Any], rank: int, rank_of_x: int | None
) -> ParametersOf:
    """Returns what gamma and beta, as far as they are there, are given for.

    Args:
        parameters: Name -> gamma or beta, or `None`.
        rank: Theirs if they are the same for all samples.
        rank_of_x: That of the data; `None` if it is unknown.
    """

    def rank_of(value: Any) -> int | None:
        if isinstance(value, _TENSOR_OR_VARIABLE):
            return value.shape.rank
        return np.ndim(value)

    def kind_of(given: int | None) -> ParametersOf:
        if given == rank + 1:
            return ParametersOf.SAMPLE
        if given is not None and given > rank and given == (rank_of_x or given):
            return ParametersOf.POSITION
        return ParametersOf.ALL

    kinds = {n: kind_of(rank_of(v)) for n, v in parameters.items() if v is not None}
    if len(set(kinds.values())) > 1:
        received = ", ".join(f"`{name}` {kind.value}" for name, kind in kinds.items())
        raise ValueError(
            "Arguments `gamma` and `beta` must both be given for each sample, both for "
            f"each position, or both for all. Received: {received}"
        )
    return next(iter(kinds.values()), ParametersOf.ALL)


def broadcast(
    parameters: dict[str, Any], x: tf.Tensor, axes: Sequence[int]
) -> dict[str, Any]:
    """Returns gamma and beta in shapes that the ops have, where they broadcast to one.

    Args:
        parameters: Name -> gamma or beta, or `None`.
        x: The data.
        axes: Those that have parameters where they are the same for all samples, in
            order; they count from the front if the rank of `x` is known.
    """
    sizes = static_shape(x)
    if sizes is None:
        return parameters
    return {
        name: None if value is None else _broadcast(name, value, x, sizes, axes)
        for name, value in parameters.items()
    }


def _broadcast(
    name: str, value: Any, x: tf.Tensor, sizes: Shape, axes: Sequence[int]
) -> Any:
    """Returns gamma or beta of as many axes as `x`, some of size 1, without those.

    What differs in no other axis than `axes` is for all samples, and what differs in
    the batch axis besides is for each sample; all else is repeated for each position.
    """
    given = _static_shape_of(value)
    rank = len(sizes)
    if given is None or len(axes) == rank:
        return value
    if len(given) != rank:
        common = [sizes[axis] for axis in axes]
        # For each of one sample, or along an axis that is repeated: for all of them.
        for_all = 0 not in axes and given[:1] == [1]
        if for_all and _compatible(given[1:], common):
            return tf.squeeze(parameter_tensor(value), [0])
        return value
    single = [
        axis
        for axis, (size, wanted) in enumerate(zip(given, sizes, strict=True))
        if size == 1 and wanted != 1
    ]
    if not single or not _compatible(_without(given, single), _without(sizes, single)):
        return _refused_if_longer(name, value, given, sizes, axes)
    value = parameter_tensor(value)
    others = [axis for axis in range(rank) if axis not in axes]
    if any(given[axis] != 1 for axis in others if axis != 0):
        return tf.broadcast_to(value, tf.shape(x))
    dropped = [axis for axis in others if given[axis] == 1]
    value = tf.squeeze(value, dropped)
    if all(axis in dropped for axis in single):
        return value
    return tf.broadcast_to(value, _without(tf.unstack(tf.shape(x)), dropped))


def _without(sizes: Sequence[Any], axes: Sequence[int]) -> list[Any]:
    return [size for axis, size in enumerate(sizes) if axis not in axes]


def _refused_if_longer(
    name: str, value: Any, given: Shape, sizes: Shape, axes: Sequence[int]
) -> Any:
    """Returns gamma or beta, unless it can only be for each position and is not.

    Of one more axis than `axes` it is for each sample, and checked as that.
    """
    if _compatible(given, sizes) or len(given) <= len(axes) + 1:
        return value
    common = [sizes[axis] for axis in axes]
    samples = "" if 0 in axes else f"{as_tuple([sizes[0], *common])} for each sample, "
    raise ValueError(
        f"Argument `{name}` must have shape {as_tuple(common)} for all samples, "
        f"{samples}or {as_tuple(sizes)}, in which any axes may be 1. Received: "
        f"shape={as_tuple(given)}"
    )


def _static_shape_of(value: Any) -> Shape | None:
    if isinstance(value, _TENSOR_OR_VARIABLE):
        return static_shape(value)
    return list(np.shape(value))


def batch_left_out(axis: Any, axes: Sequence[int]) -> None:
    """Checks axes, as given and in order, whose parameters are of each sample."""
    if 0 in axes:
        raise ValueError(
            "Argument `axis` must leave out the batch axis 0 where `gamma` and `beta` "
            f"are given for each sample. Received: axis={axis}"
        )


def parameter_tensor(value: Any) -> tf.Tensor | tf.Variable:
    """Returns gamma or beta as a tensor, or as the variable that it is."""
    if isinstance(value, _TENSOR_OR_VARIABLE):
        return value
    # Plain Python numbers have no dtype of their own; whatever has one keeps it.
    dtype = None if hasattr(value, "dtype") else tf.float32
    return tf.convert_to_tensor(value, dtype=dtype)


def parameter(
    name: str,
    value: Any,
    x: tf.Tensor,
    expected: Shape | None,
    of: ParametersOf = ParametersOf.ALL,
) -> tf.Tensor | tf.Variable:
    """Returns gamma or beta as a tensor of an allowed dtype and shape.

    A variable stays one: TensorFlow reads it inside the op call, in C++, in a
    fraction of the time of a conversion here.
    """
    value = parameter_tensor(value)
    if value.dtype is not tf.float32 and value.dtype is not x.dtype:
        raise ValueError(
            f"Argument `{name}` must have dtype float32 or the dtype of `x`, "
            f"{x.dtype.name}. Received: dtype={value.dtype.name}"
        )
    if expected is not None:
        shape = static_shape(value)
        if shape is not None and shape != expected and not _compatible(shape, expected):
            # One more axis than the parameters of all samples have was taken for the
            # batch, which may not be what was meant.
            for_all = f", or {as_tuple(expected[1:])} for all samples"
            raise ValueError(
                f"Argument `{name}` must have shape {as_tuple(expected)}"
                f"{for_all if of is ParametersOf.SAMPLE else ''}. Received: "
                f"shape={as_tuple(shape)}"
            )
    return value


def mask(value: Any, x: tf.Tensor, axis: int) -> tf.Tensor:
    """Returns a mask as a tensor of the shape of `x` without the channel axis.

    Args:
        value: Boolean, with the first axes of `x` but the channel axis; all of them, or
            as many as it has. Axes of size 1 are broadcast. The channel axis may be
            there, of size 1.
        x: The data.
        axis: The channel axis.
    """
    if not isinstance(value, tf.Tensor):
        value = tf.convert_to_tensor(value)
    if value.dtype is not tf.bool:
        raise ValueError(
            "Argument `mask` must be boolean; convert it, for example with "
            f"`tf.cast(mask, tf.bool)`. Received: dtype={value.dtype.name}"
        )
    shape = static_shape(x)
    given = static_shape(value)
    if shape is None or given is None:
        return value
    axis %= len(shape)
    expected = shape[:axis] + shape[axis + 1 :]
    if len(given) == len(shape) and given[axis] == 1:
        value = tf.squeeze(value, axis)
        given = static_shape(value)
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
    """Checks the shape of the residual of a layer, which takes any dtype."""
    if shape is None or expected is None or _compatible(shape, expected):
        return
    raise ValueError(
        f"Argument `residual` must have the shape of the input, {as_tuple(expected)}. "
        f"Received: shape={as_tuple(shape)}"
    )


def _described(x: tf.Tensor) -> str:
    shape = static_shape(x)
    return f"{'unknown' if shape is None else as_tuple(shape)} {x.dtype.name}"
