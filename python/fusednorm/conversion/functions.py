"""The functions of `keras.ops` that normalize, computed by our ops.

They stand in for Keras's while `fusednorm.patch_keras` holds, and take what they
compute as Keras does: dense floating-point tensors of known rank, with weights of which
the shape is that of the normalized axes. For all else they return `None`, and Keras's
function computes it, or says what is wrong with it.
"""

from __future__ import annotations

import contextlib
import inspect
import numbers
from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np
import tensorflow as tf

from fusednorm import _checks, _portable, ops
from fusednorm._keras import keras
from fusednorm.conversion import internals

_FLOATS = ("float16", "bfloat16", "float32", "float64")


@dataclass(frozen=True)
class Function:
    """A function of Keras's, and ours for it.

    Attributes:
        module: The module in which Keras looks it up.
        name: Its name there.
        ours: Takes the same arguments; returns `None` where Keras's is to compute.
    """

    module: ModuleType
    name: str
    ours: Callable[..., tf.Tensor | None]


def of_keras() -> list[Function]:
    """Returns the functions of this Keras for which there are ours.

    Those that take other arguments than the ones that ours know are not among them.
    """
    found = []
    for ours in (layer_normalization, rms_normalization):
        place = internals.function_of_norm(ours.__name__)
        if place is not None:
            taken, known = map(_arguments, (getattr(*place), ours))
            if taken == known[: len(taken)]:
                found.append(Function(*place, ours))
    return found


def layer_normalization(
    x: Any,
    gamma: Any = None,
    beta: Any = None,
    axis: Any = -1,
    epsilon: Any = None,
    rms_scaling: bool = False,
) -> tf.Tensor | None:
    """Returns what Keras's function does, or `None` for what ours do not take.

    Args:
        x: The data: a tensor, variable or array.
        gamma: Optional scale, of any dtype.
        beta: Optional offset, of any dtype.
        axis: Integer, or list or tuple of integers.
        epsilon: Added to the variance; `None` for `keras.backend.epsilon()`.
        rms_scaling: Not taken where it is true.
    """
    data = _Data.of(x, axis, epsilon)
    if data is None or rms_scaling:
        return None
    weights = data.weights(gamma, beta)
    if weights is None:
        return None
    return ops.layer_norm(data.x, *weights, axis=data.axes, epsilon=data.epsilon)


def rms_normalization(
    x: Any, scale: Any = None, axis: Any = -1, epsilon: Any = None
) -> tf.Tensor | None:
    """Returns what Keras's function does, or `None` for what ours do not take.

    Args:
        x: The data: a tensor, variable or array.
        scale: Optional scale, of any dtype. Keras multiplies by it along the last axes,
            whatever `axis` is, so that it is only taken where these are the same.
        axis: Integer, or list or tuple of integers.
        epsilon: Added to the mean square; `None` for `keras.backend.epsilon()`.
    """
    data = _Data.of(x, axis, epsilon)
    if data is None or (scale is not None and not data.over_last_axes):
        return None
    weights = data.weights(scale)
    if weights is None:
        return None
    return ops.rms_norm(data.x, *weights, axis=data.axes, epsilon=data.epsilon)


@dataclass(frozen=True)
class _Data:
    """What is normalized, checked.

    Attributes:
        x: The data.
        axes: The normalized axes, counted from the front, in increasing order.
        epsilon: A number that the ops take.
    """

    x: tf.Tensor | tf.Variable
    axes: tuple[int, ...]
    epsilon: float

    @classmethod
    def of(cls, x: Any, axis: Any, epsilon: Any) -> _Data | None:
        """Returns it, or `None` if ours do not take one of the arguments."""
        x = _tensor(x)
        if x is None or x.dtype.name not in _FLOATS or not x.shape.rank:
            return None
        if epsilon is None:
            epsilon = keras.backend.epsilon()
        if not isinstance(epsilon, numbers.Real) or not _can_run():
            return None
        with contextlib.suppress(TypeError, ValueError):
            axes, _ = _checks.axes.normalized(
                _checks.arguments.integer_axes(axis), x.shape.rank
            )
            return cls(x, axes, _checks.arguments.epsilon(epsilon))
        return None

    @property
    def over_last_axes(self) -> bool:
        """Whether the normalized axes are the last ones."""
        return self.axes == tuple(range(self.x.shape.rank))[-len(self.axes) :]

    def weights(self, *given: Any) -> list[Any] | None:
        """Returns weights in the dtype that Keras has them in, where it computes.

        `None` if one has another shape than the normalized axes, or the shape is not
        known: Keras broadcasts it.
        """
        dtype = "float64" if self.x.dtype is tf.float64 else "float32"
        shape = [self.x.shape[axis] for axis in self.axes]
        taken = []
        for weight in given:
            if weight is not None:
                weight = _tensor(keras.ops.convert_to_tensor(weight, dtype=dtype))
                known = weight is not None and weight.shape.is_fully_defined()
                if not known or weight.shape.as_list() != shape:
                    return None
            taken.append(weight)
        return taken


def _tensor(x: Any) -> tf.Tensor | tf.Variable | None:
    """Returns what TensorFlow takes as a dense tensor without converting its dtype."""
    if isinstance(x, keras.Variable):
        x = x.value
    elif isinstance(x, np.ndarray) and x.dtype.name in _FLOATS:
        x = tf.convert_to_tensor(x)
    return x if isinstance(x, tf.Tensor | tf.Variable) else None


def _can_run() -> bool:
    """Returns whether our ops can run where the function is called or traced.

    XLA may be about to compile what is traced. Layers say that they cannot be compiled
    where the library has no kernels for that; what a function is called by does not.
    """
    return tf.executing_eagerly() or _portable.supports_xla()


def _arguments(function: Callable[..., Any]) -> tuple[str, ...]:
    return tuple(inspect.signature(function).parameters)
