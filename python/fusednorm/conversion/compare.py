"""Whether a layer or a model computes the same as before, on random input."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from fusednorm._keras import keras
from fusednorm.conversion import internals
from fusednorm.conversion.report import first_line

# Half a unit in the last place.
_UNITS = {"float64": 2.0**-53, "float32": 2.0**-24, "float16": 2.0**-11}
_BFLOAT16 = 2.0**-8
# Two computations of one norm differ by a few roundings, each relative to the largest
# that occurs; Keras's RMSNormalization makes all of them in the data's own type.
_ROUNDINGS = 64
_BATCH, _LAYER_SIZE, _MODEL_SIZE = 2, 5, 32


def _unit(dtypes: Iterable[Any]) -> float:
    """Returns the unit of the coarsest of these types."""
    dtypes = map(tf.as_dtype, dtypes)
    floats = [dtype.name for dtype in dtypes if dtype.is_floating] or ["float32"]
    return max(_UNITS.get(name, _BFLOAT16) for name in floats)


def layer_tolerance(layer: keras.layers.Layer) -> float:
    """Returns by how much a layer's outputs may differ, relative to their largest."""
    return _ROUNDINGS * _unit([layer.compute_dtype])


def _model_tolerance(model: keras.layers.Layer, inputs: Any) -> float:
    """Returns by how much a model's outputs may differ: half of their digits.

    Every layer has been compared already; this is about what layers make of the
    roundings of those before them, of which nothing is known.
    """
    # A layer of Keras's may compute in the dtype of its input.
    dtypes = [tf.convert_to_tensor(each).dtype for each in tf.nest.flatten(inputs)]
    dtypes += [each.compute_dtype for each in internals.everything(model)]
    return 4 * _unit(dtypes) ** 0.5


def random_input(
    shape: Sequence[int | None], dtype: Any, size: int, rng: np.random.Generator
) -> tf.Tensor:
    """Returns random data of a shape, with `size` where a dimension is unknown.

    Integers are 0 and 1, which are in every vocabulary.

    Raises:
        ValueError: if nothing is known about what such data looks like.
    """
    dtype = tf.as_dtype(dtype)
    sizes = [
        (size if index else _BATCH) if dimension is None else dimension
        for index, dimension in enumerate(shape)
    ]
    if dtype.is_floating:
        return tf.cast(rng.standard_normal(sizes, np.float32), dtype)
    if dtype.is_integer or dtype.is_bool:
        return tf.cast(rng.integers(0, 2, sizes), dtype)
    raise ValueError(f"no random input of dtype {dtype.name}")


def layer_input(layer: keras.layers.Layer) -> tf.Tensor:
    """Returns random input for a built normalization layer."""
    shape = internals.build_shape(layer)
    rng = np.random.default_rng(0)
    return random_input(shape, layer.compute_dtype, _LAYER_SIZE, rng)


def model_input(model: keras.layers.Layer) -> Any:
    """Returns random input for a model with a graph.

    Raises:
        ValueError: if its inputs are not known, or of a type that has no random data.
    """
    if not internals.is_graph(model):
        raise ValueError("what it takes is not known; pass `inputs=`")
    symbols = model.inputs if isinstance(model, keras.Sequential) else model.input
    if isinstance(symbols, list) and len(symbols) == 1:
        (symbols,) = symbols
    rng = np.random.default_rng(0)
    return tf.nest.map_structure(
        lambda x: random_input(x.shape, x.dtype, _MODEL_SIZE, rng), symbols
    )


def outputs(call: Callable[[Any], Any], inputs: Any) -> list[np.ndarray]:
    """Returns the floating-point outputs of a layer or model, in float64."""
    flat = [tf.convert_to_tensor(each) for each in tf.nest.flatten(call(inputs))]
    return [tf.cast(y, tf.float64).numpy() for y in flat if y.dtype.is_floating]


def difference(after: list[np.ndarray], before: list[np.ndarray]) -> float:
    """Returns the largest difference, relative to the largest number of each output."""
    return max(map(_difference, after, before), default=0.0)


def _difference(after: np.ndarray, before: np.ndarray) -> float:
    finite = np.isfinite(before)
    if after.shape != before.shape or not np.array_equal(
        after[~finite], before[~finite], equal_nan=True
    ):
        return float("inf")
    if not finite.any():
        return 0.0
    gap = np.abs(after[finite] - before[finite]).max()
    # Where all is zero, relative to one.
    return float(gap / (np.abs(before[finite]).max() or 1.0))


class Outputs:
    """The outputs of a model before it is changed, as far as they can be had.

    Args:
        model: The model.
        inputs: What to call it on; random if `None`.
    """

    def __init__(self, model: keras.layers.Layer, inputs: Any = None) -> None:
        self._model = model
        self._given = inputs is not None
        self._before: list[np.ndarray] | None = None
        self._tolerance = 0.0
        try:
            self._inputs = inputs if self._given else model_input(model)
            before = outputs(model, self._inputs)
            again = outputs(model, self._inputs)
            self._tolerance = _model_tolerance(model, self._inputs)
        except Exception as error:
            # A model may ask anything of its inputs, and fail in any way on others.
            if self._given:
                raise
            self._why = first_line(error)
            return
        if difference(again, before) > self._tolerance:
            self._why = "two calls of the original on the same input differ"
        else:
            self._before = before

    def compare(self, tolerance: float | None) -> tuple[str, float | None]:
        """Compares what the model returns now.

        Returns:
            How it was compared, in words, and the difference; `None` if it was not.

        Raises:
            RuntimeError: if the outputs differ by more than the tolerance.
        """
        if self._before is None:
            return f"The model's outputs were not compared: {self._why}", None
        if tolerance is None:
            tolerance = self._tolerance
        gap = difference(outputs(self._model, self._inputs), self._before)
        if not gap <= tolerance:
            raise RuntimeError(
                f"The outputs of model '{self._model.name}' differ by {gap:.1e} of the "
                f"largest, more than the tolerance of {tolerance:.1e}. The model is as "
                "it was. Where it amplifies roundings that much, pass `tolerance=`."
            )
        of = "the given" if self._given else "random"
        return f"Outputs on {of} input: largest difference {gap:.1e} (relative)", gap
