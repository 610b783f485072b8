"""One change of layers, tried on random input."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import InitVar, dataclass, field, replace
from typing import Any

import numpy as np
import tensorflow as tf

from fusednorm._keras import keras
from fusednorm.conversion import compare, internals
from fusednorm.conversion.report import Row, first_line
from fusednorm.conversion.suspension import suspended
from fusednorm.layers.base import Normalization

Layer = keras.layers.Layer


@dataclass
class Trial:
    """A change of layers, and what tells that they compute the same afterwards.

    Attributes:
        row: What the report says of it if they do.
        layers: The layers that change; the first one is a norm.
        call: Calls them.
        become: Makes the change.
        shape: The shape of the input of the first one, if it does not know it itself.
        tolerance: By how much outputs may differ, relative to their largest; `None`
            for the usual bound.
        of_keras: Keras's layer, which becomes one of ours, or the other way round. Its
            float32 sums over millions of elements are off by more than the bound. So
            where outputs differ, a layer like it in float64 tells who is right.
        off: By how much Keras's layer was off, where that was found.
    """

    row: Row
    layers: list[Layer]
    call: Callable[[Any], Any]
    become: Callable[[], None]
    shape: Sequence[int | None] | None = None
    tolerance: float | None = None
    off: float = field(default=0.0, init=False)
    of_keras: InitVar[Layer | None] = None
    _dtypes: list[str] = field(default_factory=list)
    _before: list[np.ndarray] = field(default_factory=list)
    _x: tf.Tensor | None = None
    _theirs: tuple[type, dict[str, Any]] | None = None

    def __post_init__(self, of_keras: Layer | None) -> None:
        """Notes what Keras's layer is at once, for it may be ours in the end."""
        if of_keras is not None:
            self._theirs = type(of_keras), of_keras.get_config()

    def take(self) -> None:
        """Calls the layers before the change."""
        self._x = compare.layer_input(self.layers[0], self.shape)
        self._before = self._outputs()

    def changed(self) -> Row:
        """Makes the change, and returns what there is to say of it.

        Returns:
            The row, without `after` if the change is to be taken back.
        """
        try:
            self.become()
            after = self._outputs()
            gap = compare.difference(after, self._before)
            bound = self.tolerance or compare.layer_tolerance(*self._dtypes)
            if gap <= bound:
                return replace(self.row, difference=gap)
            why = compare.described(gap, after, self._before)
            if self._theirs is not None:
                exact = self._exact()
                by_us, by_keras = after, self._before
                if not isinstance(self.layers[0], Normalization):
                    by_us, by_keras = by_keras, by_us
                if compare.error(by_us, exact) <= bound:
                    self.off = compare.error(by_keras, exact)
                    why = f"Keras's layer is off by {self.off:.1e} from float64"
                    return replace(self.row, why=why, difference=gap)
        except Exception as error:
            why = first_line(error)
        return replace(self.row, after=None, why=why)

    def _outputs(self) -> list[np.ndarray]:
        self._dtypes.append(self.layers[0].compute_dtype)
        with compare.other_weights(self.layers[0]):
            return compare.outputs(self.call, self._x, *self.layers)

    def _exact(self) -> list[np.ndarray]:
        """Returns what Keras's layer gives in float64."""
        with suspended(), compare.other_weights(self.layers[0]):
            exact = internals.in_float64(*self._theirs, self.layers[0])
            return compare.outputs(exact, tf.cast(self._x, "float64"), exact)
