"""The layers of a model, each with its path and with what holds it."""

from __future__ import annotations

from dataclasses import dataclass, field

from fusednorm._keras import keras
from fusednorm.conversion import internals

Layer = keras.layers.Layer


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
