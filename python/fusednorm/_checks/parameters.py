"""Gamma and beta: what they are given for, and the form in which the ops take them."""

from __future__ import annotations

import enum
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

from fusednorm._checks.axes import batch_left_out
from fusednorm._checks.shapes import Shape, as_tuple, compatible, static

_TENSOR_OR_VARIABLE = (tf.Tensor, tf.Variable)


class ParametersOf(enum.Enum):
    """What gamma and beta are given for."""

    ALL = "for all"  # They are the same for all samples.
    SAMPLE = "for each sample"
    POSITION = "for each position"


@dataclass(frozen=True, slots=True)
class Parameters:
    """Gamma and beta as the ops take them: checked, and of one dtype.

    Attributes:
        gamma: A list of at most one tensor or variable.
        beta: The same.
        of: What both are given for.
    """

    gamma: list[tf.Tensor | tf.Variable]
    beta: list[tf.Tensor | tf.Variable]
    of: ParametersOf = ParametersOf.ALL


def checked(
    gamma: Any, beta: Any, x: tf.Tensor, axis: Any, axes: Sequence[int]
) -> Parameters:
    """Returns gamma and beta in shapes and a dtype that the ops take.

    Args:
        gamma: The scale, or `None`.
        beta: The offset, or `None`.
        x: The input.
        axis: The axes that gamma and beta span where they are the same for all samples,
            as the user gave them.
        axes: The same axes in increasing order. They count from the front if the rank
            of `x` is known.

    Raises:
        ValueError: if the shape or dtype of one does not fit `x`, or if one is given
            for something else than the other.
    """
    sizes = static(x)
    common = None if sizes is None else [sizes[each] for each in axes]
    dtype = tf.float64 if x.dtype is tf.float64 else tf.float32
    if _fits(gamma, common, dtype) and _fits(beta, common, dtype):
        return Parameters(_list(gamma, dtype), _list(beta, dtype))
    values = {"gamma": gamma, "beta": beta}
    if sizes is not None:
        values = {
            name: None if value is None else _broadcast(name, value, x, sizes, axes)
            for name, value in values.items()
        }
    of = _given_for(values, len(axes), x.shape.rank)
    expected = common
    if of is ParametersOf.POSITION:
        expected = sizes
    elif of is ParametersOf.SAMPLE:
        batch_left_out(axis, axes)
        expected = None if sizes is None else [sizes[0], *common]
    tensors = {
        name: None if value is None else _checked(name, value, x, expected, of)
        for name, value in values.items()
    }
    dtype = _common_dtype(tensors.values(), x)
    lists = (_list(value, dtype) for value in tensors.values())
    return Parameters(*lists, of=of)


def _fits(value: Any, common: Shape | None, dtype: tf.DType) -> bool:
    """Returns whether the ops take a parameter as it is, the same for all samples.

    They nearly always do, and nothing else needs to be found out then.
    """
    return value is None or (
        isinstance(value, _TENSOR_OR_VARIABLE)
        and value.dtype is dtype
        and common is not None
        and static(value) == common
    )


def _list(value: Any, dtype: tf.DType) -> list[tf.Tensor | tf.Variable]:
    """Returns gamma or beta as a list of at most one, in a dtype."""
    if value is None:
        return []
    return [value if value.dtype is dtype else tf.cast(value, dtype)]


def _given_for(
    values: dict[str, Any], rank: int, rank_of_x: int | None
) -> ParametersOf:
    """Returns what gamma and beta, as far as they are there, are given for.

    Args:
        values: Name -> gamma or beta, or `None`.
        rank: Their rank if they are the same for all samples.
        rank_of_x: The rank of the input; `None` if it is unknown.
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

    kinds = {n: kind_of(rank_of(v)) for n, v in values.items() if v is not None}
    if len(set(kinds.values())) > 1:
        received = ", ".join(f"`{name}` {kind.value}" for name, kind in kinds.items())
        raise ValueError(
            "Arguments `gamma` and `beta` must both be given for each sample, both for "
            f"each position, or both for all. Received: {received}"
        )
    return next(iter(kinds.values()), ParametersOf.ALL)


def _broadcast(
    name: str, value: Any, x: tf.Tensor, sizes: Shape, axes: Sequence[int]
) -> Any:
    """Returns gamma or beta in a shape of the ops, if it broadcasts to one.

    That is about parameters with as many axes as `x`, some of them of size 1. Where
    only `axes` are longer, the parameter is for all samples. Where the batch axis is
    longer too, it is for each sample. Any other is repeated for each position.
    """
    given = _shape_of(value)
    rank = len(sizes)
    if given is None or len(axes) == rank:
        return value
    if len(given) != rank:
        common = [sizes[axis] for axis in axes]
        # One parameter for each of one sample is one for all samples.
        for_all = 0 not in axes and given[:1] == [1]
        if for_all and compatible(given[1:], common):
            return tf.squeeze(_tensor(value), [0])
        return value
    single = [
        axis
        for axis, (size, wanted) in enumerate(zip(given, sizes, strict=True))
        if size == 1 and wanted != 1
    ]
    if not single or not compatible(_without(given, single), _without(sizes, single)):
        return _refused_if_longer(name, value, given, sizes, axes)
    value = _tensor(value)
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
    """Returns a parameter, unless it must be for each position and does not fit that.

    A parameter with one more axis than `axes` is not refused here: it is taken to be
    for each sample, and its shape is checked as such.
    """
    if compatible(given, sizes) or len(given) <= len(axes) + 1:
        return value
    common = [sizes[axis] for axis in axes]
    samples = "" if 0 in axes else f"{as_tuple([sizes[0], *common])} for each sample, "
    raise ValueError(
        f"Argument `{name}` must have shape {as_tuple(common)} for all samples, "
        f"{samples}or {as_tuple(sizes)}, in which any axes may be 1. Received: "
        f"shape={as_tuple(given)}"
    )


def _shape_of(value: Any) -> Shape | None:
    if isinstance(value, _TENSOR_OR_VARIABLE):
        return static(value)
    return list(np.shape(value))


def _tensor(value: Any) -> tf.Tensor | tf.Variable:
    """Returns gamma or beta as a tensor, or as the variable that it is.

    A variable stays one: TensorFlow reads it inside the op call, in C++, in a fraction
    of the time of a conversion here.
    """
    if isinstance(value, _TENSOR_OR_VARIABLE):
        return value
    # Plain Python numbers have no dtype of their own; whatever has one keeps it.
    dtype = None if hasattr(value, "dtype") else tf.float32
    return tf.convert_to_tensor(value, dtype=dtype)


def _checked(
    name: str, value: Any, x: tf.Tensor, expected: Shape | None, of: ParametersOf
) -> tf.Tensor | tf.Variable:
    """Returns gamma or beta as a tensor of an allowed dtype and the expected shape."""
    value = _tensor(value)
    if value.dtype is not tf.float32 and value.dtype is not x.dtype:
        raise ValueError(
            f"Argument `{name}` must have dtype float32 or the dtype of `x`, "
            f"{x.dtype.name}. Received: dtype={value.dtype.name}"
        )
    shape = static(value)
    if expected is None or shape is None or compatible(shape, expected):
        return value
    # The first of one axis too many was taken for the batch axis. The user may have
    # meant parameters that are the same for all samples.
    for_all = f", or {as_tuple(expected[1:])} for all samples"
    raise ValueError(
        f"Argument `{name}` must have shape {as_tuple(expected)}"
        f"{for_all if of is ParametersOf.SAMPLE else ''}. Received: "
        f"shape={as_tuple(shape)}"
    )


def _common_dtype(tensors: Iterable[Any], x: tf.Tensor) -> tf.DType:
    """Returns the dtype in which the ops take gamma and beta together."""
    dtypes = {each.dtype for each in tensors if each is not None}
    if x.dtype is tf.float64:
        return tf.float64
    return dtypes.pop() if len(dtypes) == 1 else tf.float32
