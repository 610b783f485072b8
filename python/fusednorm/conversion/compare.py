"""Whether a layer or a model computes the same as before, on random input."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from fusednorm import layers
from fusednorm._keras import keras
from fusednorm.conversion import internals
from fusednorm.conversion.report import reason
from fusednorm.conversion.state import kept, variables_kept
from fusednorm.conversion.suspension import suspended

# Half a unit in the last place.
_UNITS = {"float64": 2.0**-53, "float32": 2.0**-24, "float16": 2.0**-11}
_BFLOAT16 = 2.0**-8
# Two computations of one norm differ by a few roundings, each relative to the largest
# that occurs; Keras's RMSNormalization makes all of them in the data's own type.
_ROUNDINGS = 64
_LAYER_SIZE = 5
# What a model may make of the error of one layer of Keras's, where that is large.
_AMPLIFIED = 8
# A norm gives numbers of about one, whose sum may be nothing but rounding: an output is
# not compared by less than this times the tolerance for a model, with which what is
# allowed are as many roundings of a one as for a layer.
_FLOOR = 4.0
# The batch and the size of unknown dimensions of a model's input: the first pair with
# which it has no more than so many numbers, or the last one.
_SIZES, _MOST = ((2, 32), (1, 32), (1, 16), (1, 8)), 2**20
_CHUNK = 2**20
# The layers whose statistics are over their `axis`, and over nothing else.
_OF_ROWS = tuple(
    getattr(package, name)
    for package in (keras.layers, layers)
    for name in ("LayerNormalization", "RMSNormalization")
    if hasattr(package, name)  # tf_keras has no RMSNormalization.
)


def _unit(dtypes: Iterable[Any]) -> float:
    """Returns the unit of the coarsest of these types."""
    dtypes = map(tf.as_dtype, dtypes)
    floats = [dtype.name for dtype in dtypes if dtype.is_floating] or ["float32"]
    return max(_UNITS.get(name, _BFLOAT16) for name in floats)


def layer_tolerance(*dtypes: str) -> float:
    """Returns by how much outputs may differ, relative to their largest.

    Args:
        *dtypes: The dtypes that the layer computes in, before and after.
    """
    return _ROUNDINGS * _unit(dtypes)


def _model_tolerance(model: keras.layers.Layer, inputs: Any) -> float:
    """Returns by how much a model's outputs may differ: half of their digits.

    Every layer has been compared already; this is about what layers make of the
    roundings of those before them, of which nothing is known.
    """
    # A layer of Keras's may compute in the dtype of its input.
    dtypes = [tf.convert_to_tensor(each).dtype for each in tf.nest.flatten(inputs)]
    dtypes += [each.compute_dtype for each in internals.everything(model)]
    return 4 * _unit(dtypes) ** 0.5


def _sizes(shape: Sequence[int | None], batch: int, size: int) -> list[int]:
    """Returns a shape with what is unknown in it filled in."""
    return [
        (size if index else batch) if dimension is None else int(dimension)
        for index, dimension in enumerate(shape)
    ]


def random_input(sizes: Sequence[int], dtype: Any, rng: np.random.Generator) -> Any:
    """Returns random data. Integers are 0 and 1, which are in every vocabulary.

    Raises:
        ValueError: if nothing is known about what such data looks like.
    """
    dtype = tf.as_dtype(dtype)
    if dtype.is_floating:
        return tf.cast(rng.standard_normal(sizes, np.float32), dtype)
    if dtype.is_integer or dtype.is_bool:
        return tf.cast(rng.integers(0, 2, sizes), dtype)
    raise ValueError(f"no random input of dtype {dtype.name}")


def layer_input(
    layer: keras.layers.Layer, shape: Sequence[int | None] | None = None
) -> tf.Tensor:
    """Returns random input for a built normalization layer, of the shape of its input.

    Where that is large, the batch is 1, and axes that no statistic is over are short.
    Not others: how far two computations of a sum differ depends on how long it is.
    """
    if shape is None:
        shape = internals.build_shape(layer)
    sizes = _sizes(shape, 2, _LAYER_SIZE)
    if math.prod(sizes) > _MOST:
        axes = layer.axis if isinstance(layer, _OF_ROWS) else range(1, len(sizes))
        axes = {axis % len(sizes) for axis in tf.nest.flatten(axes)}
        sizes = [
            size if axis in axes else min(size, _LAYER_SIZE if axis else 1)
            for axis, size in enumerate(sizes)
        ]
    return random_input(sizes, layer.compute_dtype, np.random.default_rng(0))


@contextlib.contextmanager
def other_weights(layer: keras.layers.Layer) -> Iterator[None]:
    """Within it a layer has random weights.

    With those of its initializers, ones and zeros mostly, layers agree that do not once
    they are trained.
    """
    rng = np.random.default_rng(1)
    with variables_kept(layer):
        for weight in layer.weights:
            weight.assign(rng.uniform(0.5, 1.5, weight.shape))
        yield


def like(symbols: dict[str, Any], x: tf.Tensor) -> dict[str, tf.Tensor]:
    """Returns random data for symbolic tensors, of as many samples as `x` has."""
    rng = np.random.default_rng(1)
    by_id = {id(each): each for each in symbols.values()}
    data = {
        key: random_input(_sizes(each.shape, x.shape[0], _LAYER_SIZE), each.dtype, rng)
        for key, each in by_id.items()
    }
    return {name: data[id(each)] for name, each in symbols.items()}


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
    shapes = [tuple(each.shape) for each in tf.nest.flatten(symbols)]
    for sizes in _SIZES:
        if sum(math.prod(_sizes(shape, *sizes)) for shape in shapes) <= _MOST:
            break
    rng = np.random.default_rng(0)
    return tf.nest.map_structure(
        lambda x: random_input(_sizes(x.shape, *sizes), x.dtype, rng), symbols
    )


def outputs(
    call: Callable[[Any], Any], inputs: Any, *called: keras.layers.Layer
) -> list[np.ndarray]:
    """Returns the floating-point outputs of a call of layers.

    The layers are what they were before the call, and those of Keras's compute with
    its own functions, also where `fusednorm.patch_keras` holds.
    """
    with kept(*called), suspended():
        flat = [tf.convert_to_tensor(each) for each in tf.nest.flatten(call(inputs))]
    return [y.numpy() for y in flat if y.dtype.is_floating]


def difference(
    after: list[np.ndarray], before: list[np.ndarray], floor: float = 0.0
) -> float:
    """Returns the largest difference, relative to the largest number of each output.

    Where that is less than `floor`, relative to `floor`.
    """
    gaps = (_difference(*pair, floor) for pair in zip(after, before, strict=True))
    return max(gaps, default=0.0)


def error(outputs: list[np.ndarray], exact: list[np.ndarray]) -> float:
    """Returns the largest error, relative to the largest number of each output."""
    return max(map(_error, outputs, exact), default=0.0)


def described(gap: float, after: list[np.ndarray], before: list[np.ndarray]) -> str:
    """Returns in words how outputs differ."""
    for now, was in zip(after, before, strict=False):
        if now.dtype != was.dtype:
            return f"its outputs would be {now.dtype}, not {was.dtype}"
    return f"its outputs would differ by {gap:.1e}"


def _difference(after: np.ndarray, before: np.ndarray, floor: float) -> float:
    same = after.dtype == before.dtype
    return _error(after, before, floor) if same else float("inf")


def _error(after: np.ndarray, before: np.ndarray, floor: float = 0.0) -> float:
    if after.shape != before.shape:
        return float("inf")
    gap = largest = 0.0
    for now, was in _chunks(after, before):
        finite = np.isfinite(was)
        if not np.array_equal(now[~finite], was[~finite], equal_nan=True):
            return float("inf")
        gap = np.max(np.abs(now[finite] - was[finite]), initial=gap)
        largest = np.max(np.abs(was[finite]), initial=largest)
    # Where all is zero, relative to one.
    scale = max(largest, floor) or 1.0
    return float("inf") if np.isnan(gap) else float(gap / scale)


def _chunks(*arrays: np.ndarray) -> Iterator[list[np.ndarray]]:
    """Yields parts of arrays in float64, in which all of them may not fit."""
    flat = [array.reshape(-1) for array in arrays]
    for start in range(0, flat[0].size, _CHUNK):
        yield [each[start : start + _CHUNK].astype(np.float64) for each in flat]


def _described(inputs: Any) -> str:
    """Returns the shapes of inputs, as far as they fit into a line."""
    shapes = [str(tuple(np.shape(each))) for each in tf.nest.flatten(inputs)]
    return ", ".join(shapes[:4] + ["..."] * (len(shapes) > 4))


class Outputs:
    """The outputs of a model before it is changed, as far as they can be had.

    Args:
        model: The model.
        inputs: What to call it on; random if `None`.
        wanted: Whether to compare them.
    """

    def __init__(
        self, model: keras.layers.Layer, inputs: Any = None, wanted: bool = True
    ) -> None:
        self._model = model
        self._inputs = inputs
        self._given = inputs is not None
        self._before: list[np.ndarray] | None = None
        self._tolerance = 0.0
        self._wanted = wanted
        self._why = "nothing was replaced" if wanted else "compare=False"

    def take(self) -> None:
        """Calls the model, which has not been changed yet."""
        if not self._wanted:
            return
        try:
            self._take()
        except Exception as error:
            # A model may ask anything of its inputs, and fail in any way on others.
            if self._given:
                raise
            self._why = reason(error)

    def _take(self) -> None:
        if not self._given:
            self._inputs = model_input(self._model)
        before = self._outputs()
        self._tolerance = _model_tolerance(self._model, self._inputs)
        if self._difference(before) > self._tolerance:
            self._why = "two calls of the original on the same input differ"
        elif before:
            self._before = before
        else:
            self._why = "none of them is of floating point"

    def _outputs(self) -> list[np.ndarray]:
        return outputs(self._model, self._inputs, self._model)

    def _difference(self, before: list[np.ndarray]) -> float:
        """Returns the difference of what the model gives now."""
        return difference(self._outputs(), before, _FLOOR * self._tolerance)

    def compare(self, tolerance: float | None, off: float) -> tuple[str, float | None]:
        """Compares what the model returns now.

        Args:
            tolerance: The largest difference allowed; `None` for half of the digits, or
                what that of a layer can amount to.
            off: By how much a layer of Keras's is off from float64.

        Returns:
            How it was compared, in words, and the difference; `None` if it was not.

        Raises:
            RuntimeError: if the outputs differ by more than the tolerance.
        """
        if self._before is None:
            return f"The model's outputs were not compared: {self._why}", None
        if tolerance is None:
            tolerance = max(self._tolerance, _AMPLIFIED * off)
        gap = self._difference(self._before)
        if not gap <= tolerance:
            raise RuntimeError(
                f"The outputs of model '{self._model.name}' differ by {gap:.1e} of the "
                f"largest, more than the tolerance of {tolerance:.1e}. The model is as "
                "it was. Where it amplifies roundings that much, pass `tolerance=`."
            )
        of = "the given" if self._given else "random"
        text = f"Outputs on {of} input: largest difference {gap:.1e} (relative)"
        return f"{text}, for input of shape {_described(self._inputs)}", gap
