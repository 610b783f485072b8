"""`Add` layers that a norm can take over; in Keras 3.

Unlike an activation, an `Add` cannot stay where it is: the sum comes out of the norm
then, which everything that took it from the `Add` has to wait for. So the graph is
rewired (`internals.Rewiring`), by what its nodes take and give; the tensors stay the
same objects. Other models of these layers, which have lists of nodes of their own,
still compute the sum.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator

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


def sums(places: list[Place]) -> list[tuple[Layer, list[tuple[Place, Place]]]]:
    """Returns every norm of ours with the Add before it, by the model they are in."""
    return by_graph(_sums(places))


def _sums(places: list[Place]) -> Iterator[tuple[tuple[Place, Place], Layer]]:
    """Yields every norm of ours with the Add before it, and the model they are in.

    Both are called once, in the graph of one functional model, the Add on two tensors
    of one shape and dtype and without masks, which it would combine.
    """
    if LEGACY:
        return
    given_out = ids_of_output_layers(places)
    by_id = {id(place.layer): place for place in places}
    for place in places:
        norm = place.layer
        if not isinstance(norm, Normalization) or not _takes_residual(norm):
            continue
        before = internals.producers(norm)
        add = by_id.get(id(before[0])) if len(before) == 1 else None
        if add is None or type(add.layer) is not keras.layers.Add:
            continue
        if id(add.layer) in given_out:  # By whose name a loss may go.
            continue
        model = only_graph(place, add)
        if model is None or isinstance(model, keras.Sequential):
            continue
        if _called_once_on(1, norm) and _called_once_on(2, add.layer):
            yield (place, add), model


def has_residual(norm: Layer) -> bool:
    """Tells whether a norm is called with a residual in any graph."""
    return any(each is not None for each in internals.given(norm, "residual"))


def _takes_residual(norm: Layer) -> bool:
    if norm.origin is not None:  # Files name its own class, which takes none.
        return False
    return "residual" in inspect.signature(type(norm).call).parameters


def _called_once_on(count: int, layer: Layer) -> bool:
    if layer.activity_regularizer is not None:
        return False
    tensors = internals.tensors_of_only_call(layer)
    return (
        len(tensors) == count
        and len({tuple(tensor.shape) for tensor in tensors}) == 1
        and {tensor.dtype for tensor in tensors} == {layer.compute_dtype}
        and not any(map(internals.has_mask, tensors))
    )
