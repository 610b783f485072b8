"""A scale and an offset after a norm that it can take over; in Keras 3.

As in adaptive layer norm: `norm(x) * (1 + scale) + shift`, where both come from
elsewhere in the model, for each sample. In the graph of a functional model that is a
product and a sum, as `Multiply` and `Add` layers or as operations of `keras.ops`, which
arithmetic with symbolic tensors makes. The norm then gives what the last of them gave,
and they are not reached any more. Other models of the same layers, which have lists of
nodes of their own, still compute them.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from fusednorm import _checks
from fusednorm._keras import LEGACY, keras
from fusednorm.conversion import internals
from fusednorm.conversion.walk import (
    Place,
    by_graph,
    ids_of_output_layers,
    only_graph,
)
from fusednorm.layers.base import Normalization

Layer = keras.layers.Layer

_ARGUMENTS = ("gamma", "beta", "zero_centered")


@dataclass
class Modulation:
    """A norm of ours in a graph, with the scale and the offset after it.

    Attributes:
        norm: The norm.
        steps: The nodes of the graph that apply them: the product and, where there is
            an offset, the sum.
        gamma: The symbolic tensor that is the scale, or that is the scale minus 1.
        beta: The symbolic tensor that is the offset, if there is one.
        one_plus: The node that adds 1 to `gamma`, if there is one.
    """

    norm: Place
    steps: list[Any]
    gamma: Any
    beta: Any
    one_plus: Any

    @property
    def tensors(self) -> dict[str, Any]:
        """The scale and the offset, by the names of the arguments for them."""
        tensors = {"gamma": self.gamma, "beta": self.beta}
        return {name: each for name, each in tensors.items() if each is not None}

    @property
    def options(self) -> dict[str, Any]:
        """The other arguments of the norm's call."""
        return {} if self.one_plus is None else {"zero_centered": True}

    @property
    def layers(self) -> list[Layer]:
        """The layers among the operations that the norm takes over."""
        operations = map(internals.operation, self.steps)
        return [each for each in operations if isinstance(each, Layer)]

    def without_offset(self) -> Modulation:
        """Returns the scale alone."""
        return replace(self, steps=self.steps[:1], beta=None)

    def apart(self, x: Any, given: dict[str, Any]) -> Any:
        """Returns what the norm and the operations after it give.

        Args:
            x: The input of the norm.
            given: The values of `tensors`.
        """
        (y,) = internals.results(internals.only_node(self.norm.layer))[:1]
        values = {id(self.tensors[name]): value for name, value in given.items()}
        values[id(y)] = self.norm.layer(x)
        before = [] if self.one_plus is None else [self.one_plus]
        for node in (*before, *self.steps):
            (result,) = internals.results(node)
            values[id(result)] = internals.evaluated(node, values)
        return values[id(result)]

    def joint(self, x: Any, given: dict[str, Any]) -> Any:
        """Returns what the norm gives that has taken them over."""
        return self.norm.layer(x, **given, **self.options)


def is_modulated(norm: Layer) -> bool:
    """Tells whether a norm is called with a scale or an offset in any graph."""
    return any(
        each is not None
        for name in _taken(norm)
        for each in internals.given(norm, name)
        if name != "zero_centered"
    )


def as_layers(norm: Layer) -> tuple[list[Layer], dict[str, Any]]:
    """Returns new layers that apply what a norm is called with, and the tensors.

    The layers are those for `internals.applied`.

    Args:
        norm: A norm of ours that is called once, in a graph, with a scale or offset.
    """
    given = {name: internals.given(norm, name)[0] for name in _taken(norm)}
    tensors = {k: v for k, v in given.items() if k != "zero_centered" and v is not None}
    options = {"dtype": norm.dtype_policy}
    layers = []
    if "gamma" in tensors:
        if given["zero_centered"]:
            name = f"{norm.name}_one_plus"
            layers.append(keras.layers.Rescaling(1.0, 1.0, name=name, **options))
        layers.append(keras.layers.Multiply(name=f"{norm.name}_scaled", **options))
    if "beta" in tensors:
        layers.append(keras.layers.Add(name=f"{norm.name}_shifted", **options))
    return layers, tensors


def found(places: list[Place]) -> list[tuple[Layer, list[Modulation]]]:
    """Returns what norms of ours can take over, by the model whose graph it is in."""
    return by_graph(_found(places))


def _found(places: list[Place]) -> Iterator[tuple[Modulation, Layer]]:
    if LEGACY:
        return
    given_out = ids_of_output_layers(places)
    by_id = {id(place.layer): place for place in places}
    for place in places:
        norm = place.layer
        if not isinstance(norm, Normalization) or "gamma" not in _taken(norm):
            continue
        model = only_graph(place)
        if model is None or isinstance(model, keras.Sequential):
            continue
        if not _can_take(norm) or id(norm) in given_out:
            continue

        def can_go(node: Any, model: Layer = model) -> bool:
            operation = internals.operation(node)
            if id(operation) in given_out or not internals.is_in(operation, model):
                return False
            if not isinstance(operation, Layer):
                return True
            layer = by_id.get(id(operation))
            return layer is not None and only_graph(layer) is model

        modulation = _after(place, can_go)
        if modulation is not None:
            yield modulation, model


def _can_take(norm: Normalization) -> bool:
    """Tells whether a norm is called once, and nothing is done to its output yet."""
    if len(internals.given(norm, "inputs")) != 1 or is_modulated(norm):
        return False
    return norm.activation is None and norm.activity_regularizer is None


def _after(place: Place, can_go: Any) -> Modulation | None:
    """Returns the scale and the offset after a norm, if there is at least a scale.

    Args:
        place: The norm.
        can_go: Tells whether a node of the graph may be left out of it.
    """
    norm = place.layer
    node = internals.only_node(norm)
    x, y = internals.given(norm, "inputs")[0], internals.results(node)[0]

    def step(tensor: Any, kind: str) -> tuple[Any, Any]:
        """Returns the node that alone takes a tensor, and what else that takes."""
        taker = internals.only_taker(tensor, kind)
        if taker is None or not can_go(taker):
            return None, None
        (result,) = internals.results(taker)
        other = internals.other_input(taker, tensor)
        if other is None or internals.depends_on(other, node):
            return None, None
        # The norm's result has to be what the operation's was.
        same = result.shape == y.shape and result.dtype == y.dtype == other.dtype
        if not same or not _is_of_samples(other, x, norm, taker):
            return None, None
        masked = any(map(internals.has_mask, (x, y, other, result)))
        return (None, None) if masked else (taker, other)

    product, gamma = step(y, "product")
    if product is None:
        return None
    steps, beta = [product], None
    if "beta" in _taken(norm):
        total, beta = step(internals.results(product)[0], "sum")
        steps += [] if total is None else [total]
    one_plus, before = internals.one_plus(gamma)
    if one_plus is not None:
        gamma = before
    return Modulation(place, steps, gamma, beta, one_plus)


def _is_of_samples(tensor: Any, x: Any, norm: Layer, taker: Any) -> bool:
    """Tells whether a tensor differs between samples and normalized positions only."""
    rank = len(x.shape)
    axes, _ = _checks.axes.normalized(norm.axis, rank)
    shape = tuple(tensor.shape)
    if len(shape) == 2 and isinstance(internals.operation(taker), Layer):
        # `Multiply` and `Add` put axes of size 1 behind the batch axis.
        shape = (shape[0], *(rank - 2) * [1], shape[1])
    wanted = [x.shape[axis] if axis in axes else 1 for axis in range(rank)]
    wanted[0] = x.shape[0]
    return 0 not in axes and None not in wanted[1:] and shape == tuple(wanted)


def _taken(norm: Layer) -> list[str]:
    if norm.origin is not None:  # Files name its own class, which takes none.
        return []
    parameters = inspect.signature(type(norm).call).parameters
    return [name for name in _ARGUMENTS if name in parameters]
