"""Activation layers that a norm can take over, and the way back.

The activation layer stays where it is, under its name, as `Activation("linear")`: in a
graph that is no op at all. So indices, names, `get_layer(...).output`, files of weights
and other models of the same layers stay what they are, and there is a place where the
activation can go back to.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from fusednorm._activations import activation_name
from fusednorm._keras import keras
from fusednorm.conversion import internals
from fusednorm.conversion.walk import Place, ids_of_output_layers, only_graph
from fusednorm.layers.base import Normalization

Layer = keras.layers.Layer

# The activation that is a function of Keras under no name of its own.
_UNNAMED = "gelu_tanh"


def name_of(layer: Layer) -> str | None:
    """Returns the kernels' name of what an activation layer computes.

    Returns:
        The name, or `None` for layers that are not activations.

    Raises:
        ValueError: if the kernels do not fuse it.
    """
    if type(layer) is keras.layers.Activation:
        return activation_name(layer.activation)
    if type(layer) is keras.layers.ReLU:
        if layer.max_value is not None or layer.threshold != 0:
            raise ValueError("its max_value or threshold is not that of a plain ReLU")
        return _leaky(layer.negative_slope)
    if type(layer) is keras.layers.LeakyReLU:
        slope = "alpha" if hasattr(layer, "alpha") else "negative_slope"
        return _leaky(getattr(layer, slope))
    return None


def _leaky(slope: float) -> str:
    if slope == 0:
        return "relu"
    if math.isclose(slope, 0.2, rel_tol=1e-6):
        return "leaky_relu"
    raise ValueError(f"the kernels have slope 0.2. Received: {float(slope):g}")


def followers(places: list[Place]) -> Iterator[tuple[Place, Place]]:
    """Yields every norm of ours with the one layer of the graph that takes its output.

    Both are in the same graph and nowhere else; each takes all that the other gives, in
    every call; and no graph has the norm's output among its own.
    """
    by_id = {id(place.layer): place for place in places}
    given_out = ids_of_output_layers(places)
    for place in places:
        if not isinstance(place.layer, Normalization) or id(place.layer) in given_out:
            continue
        takers = {id(each) for each in internals.consumers(place.layer)}
        follower = by_id.get(takers.pop()) if len(takers) == 1 else None
        if follower is None or only_graph(place, follower) is None:
            continue
        if all(each is place.layer for each in internals.producers(follower.layer)):
            yield place, follower


def obstacle(norm: Normalization, follower: Layer) -> str | None:
    """Returns why an activation cannot move between two such layers, if it cannot."""
    if norm.origin is not None:
        return "files name the norm's own class, which takes no activation"
    if norm.activity_regularizer is not None:
        return "the norm's activity regularizer is for what it gives without it"
    if norm.compute_dtype != follower.compute_dtype:
        dtypes = follower.compute_dtype, norm.compute_dtype
        return "it computes in {}, the norm before it in {}".format(*dtypes)
    return None


def as_activation(layer: Layer, name: str) -> Layer:
    """Returns an Activation layer like an activation layer, with another activation."""
    activation = "linear" if name == "none" else name
    return keras.layers.Activation(
        activation, name=layer.name, dtype=layer.dtype_policy
    )


def can_take_back(name: str, layer: Layer) -> bool:
    """Tells whether a layer is an Activation that does nothing, and could do this."""
    return (
        name != _UNNAMED
        and type(layer) is keras.layers.Activation
        and layer.activation is keras.activations.linear
    )
