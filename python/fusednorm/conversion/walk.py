"""The layers of a model, each with its path and with what holds it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TypeVar

from fusednorm._keras import keras
from fusednorm.conversion import internals

Layer = keras.layers.Layer
Found = TypeVar("Found")


@dataclass
class Place:
    """Where a layer is in a model.

    Attributes:
        layer: The layer.
        path: The names of what holds it, within the model, and its own.
        holders: The models and layers that hold it; several where it is shared.
    """

    layer: Layer
    path: str
    holders: list[Layer] = field(default_factory=list)


def ids_of_output_layers(places: list[Place]) -> set[int]:
    """Returns the ids of the layers whose outputs are outputs of any of the graphs."""
    graphs = filter(internals.is_graph, (place.layer for place in places))
    return {id(layer) for each in graphs for layer in internals.output_layers(each)}


def only_graph(*places: Place) -> Layer | None:
    """Returns the one model whose graph all of these are in, and nothing else has."""
    holders = {id(holder): holder for place in places for holder in place.holders}
    (holder,) = holders.values() if len(holders) == 1 else (None,)
    return holder if holder is not None and internals.is_graph(holder) else None


def by_graph(found: Iterable[tuple[Found, Layer]]) -> list[tuple[Layer, list[Found]]]:
    """Returns each model with all that was found in its graph."""
    grouped: dict[int, tuple[Layer, list[Found]]] = {}
    for each, model in found:
        grouped.setdefault(id(model), (model, []))[1].append(each)
    return list(grouped.values())


def places(model: Layer) -> list[Place]:
    """Returns the place of every layer, once, in the model's order, and of itself."""
    found = {id(model): Place(model, model.name)}

    def visit(holder: Layer, prefix: str) -> None:
        for layer in internals.sublayers(holder):
            seen = id(layer) in found
            place = found.setdefault(id(layer), Place(layer, prefix + layer.name))
            place.holders.append(holder)
            if not seen:
                visit(layer, f"{prefix}{layer.name}/")

    visit(model, "")
    return list(found.values())
