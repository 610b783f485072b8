"""What calling a model may change in it, kept as it was.

A model may be called for a comparison only if that leaves no trace: layers count,
draw random numbers, average statistics, and remember what they saw.
"""

from __future__ import annotations

import contextlib
import random
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

from fusednorm._keras import keras
from fusednorm.conversion import internals

Layer = keras.layers.Layer


@contextlib.contextmanager
def kept(*layers: Layer) -> Iterator[None]:
    """Within it layers can be called, and after it they are what they were.

    That holds for all variables, and for the attributes of layers: what they are, what
    is in lists, dicts, sets and arrays. What other objects know of the calls stays.
    """
    within = (each for layer in layers for each in internals.everything(layer))
    by_id = {id(each): each for each in within}
    attributes = [_Attributes(each) for each in by_id.values()]
    try:
        with variables_kept(*layers):
            yield
    finally:
        for each in attributes:
            each.restore()


@contextlib.contextmanager
def variables_kept(*layers: Layer) -> Iterator[None]:
    """Within it layers can be called, and after it their variables are as they were.

    Not `keras.StatelessScope`: functions of TensorFlow that are traced within one never
    update a variable afterwards, and variables of TensorFlow's own are updated there.
    """
    # TensorFlow copies a variable's memory when it is written to while such a value
    # is held, so that those that no call changes cost none.
    values = [(each, each.value()) for each in _variables(layers)]
    try:
        yield
    finally:
        for variable, value in values:
            variable.assign(value)


@contextlib.contextmanager
def random_numbers_kept() -> Iterator[None]:
    """Within it layers can be made, and the random numbers after it are the same.

    Their initializers draw seeds, from Python.
    """
    python, numpy = random.getstate(), np.random.get_state()
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)


def _variables(layers: tuple[Layer, ...]) -> list[tf.Variable]:
    """Returns the variables that a call of layers may change, on each device."""
    found: dict[int, tf.Variable] = {}
    for variable in internals.global_variables():
        found[id(variable)] = variable
    for layer in layers:
        for each in internals.everything(layer):
            mine = map(internals.tensorflow_variable, internals.variables(each))
            others = (v for v in vars(each).values() if isinstance(v, tf.Variable))
            for variable in (*mine, *others):
                found[id(variable)] = variable
    replicas = (getattr(each, "values", (each,)) for each in found.values())
    return [each for replica in replicas for each in replica]


@dataclass
class _Content:
    """What is in an attribute that can be changed in place."""

    holder: Any

    def __post_init__(self) -> None:
        # The methods of the plain classes, for Keras's own ones also track.
        bases = (list, OrderedDict, dict, set)
        self._base = next(each for each in bases if isinstance(self.holder, each))
        self._kept = self._base(self.holder)

    def restore(self) -> None:
        if self._same() or _is_part(self.holder):
            return
        self._base.clear(self.holder)
        if isinstance(self._kept, dict):
            for key, value in self._kept.items():
                self._base.__setitem__(self.holder, key, value)
        else:
            add = list.extend if self._base is list else set.update
            add(self.holder, self._kept)

    def _same(self) -> bool:
        if len(self._kept) != len(self.holder):
            return False
        if self._base is set:
            return self._kept == self.holder
        if isinstance(self._kept, dict) and list(self._kept) != list(self.holder):
            return False
        pairs = zip(_values(self._kept), _values(self.holder), strict=True)
        return all(was is now for was, now in pairs)


class _Attributes:
    """The attributes of a layer as they were."""

    def __init__(self, layer: Layer) -> None:
        self._layer = layer
        self._values = dict(vars(layer))
        values = self._values.values()
        self._contents = [_Content(each) for each in values if _is_content(each)]
        self._arrays = [
            (each, each.copy()) for each in values if isinstance(each, np.ndarray)
        ]

    def restore(self) -> None:
        """Makes them so again; but layers and variables that were made meanwhile."""
        now = vars(self._layer)
        for name in [each for each in now if each not in self._values]:
            if not _is_part(now[name]):
                del now[name]
        for name, value in self._values.items():
            if now.get(name, _ABSENT) is not value and not _is_part(now.get(name)):
                now[name] = value
        for content in self._contents:
            content.restore()
        for array, before in self._arrays:
            array[...] = before


_ABSENT = object()
# What a layer keeps track of beside its attributes.
_PARTS = (Layer, tf.Variable, getattr(keras, "Variable", tf.Variable))


def _is_part(value: Any) -> bool:
    """Tells whether a value is or holds a layer or a variable."""
    parts = _values(value) if isinstance(value, list | dict | set) else [value]
    return any(isinstance(each, _PARTS) for each in parts)


def _values(holder: Any) -> list[Any]:
    return list(holder.values() if isinstance(holder, dict) else holder)


def _is_content(value: Any) -> bool:
    # TensorFlow's own lists and dicts have no methods that leave out its tracking.
    plain = isinstance(value, list | dict | set)
    return plain and not hasattr(value, "_self_unconditional_checkpoint_dependencies")
