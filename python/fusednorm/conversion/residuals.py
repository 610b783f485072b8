"""`Add` layers that a norm can take over, and the way back; in Keras 3.

Unlike an activation, an `Add` cannot stay where it is: the sum comes out of the norm
then, which everything that took it from the `Add` has to wait for. So the graph is
rewired, by what its nodes take and give; the tensors stay the same objects. Other
models of these layers, which have lists of nodes of their own, still compute the sum.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from fusednorm._keras import LEGACY, keras
from fusednorm.conversion import internals
from fusednorm.conversion.walk import Place, ids_of_output_layers, only_graph
from fusednorm.layers.base import Normalization

Layer = keras.layers.Layer

# What a functional model knows of its graph.
_GRAPH = ("_nodes", "_nodes_by_depth", "_operations", "_operations_by_depth")


def sums(places: list[Place]) -> Iterator[tuple[Place, Place, Layer]]:
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
            yield place, add, model


def has_residual(norm: Layer) -> bool:
    """Tells whether a norm is called with a residual in any graph."""
    return any(
        internals.argument(norm, node, "residual") is not None
        for node in norm._inbound_nodes
    )


def _takes_residual(norm: Layer) -> bool:
    return "residual" in inspect.signature(type(norm).call).parameters


def _called_once_on(count: int, layer: Layer) -> bool:
    if len(layer._inbound_nodes) != 1 or layer.activity_regularizer is not None:
        return False
    arguments = layer._inbound_nodes[0].arguments
    tensors = arguments.keras_tensors
    return (
        not any(value is not None for value in arguments.kwargs.values())
        and len(tensors) == count
        and len({tuple(tensor.shape) for tensor in tensors}) == 1
        and {tensor.dtype for tensor in tensors} == {layer.compute_dtype}
        and all(getattr(tensor, "_keras_mask", None) is None for tensor in tensors)
    )


@dataclass
class Rewiring:
    """A change of one model's graph, which can be taken back."""

    model: Layer
    _kept: list[tuple[Any, str, Any]] = field(default_factory=list)
    _undo: list[tuple[Callable[[Layer], None], Layer]] = field(default_factory=list)

    def fold(self, norm: Layer, add: Layer) -> None:
        """Makes a norm take what an Add takes, and give what it gives, too."""
        (node,), (gone,) = norm._inbound_nodes, add._inbound_nodes
        a, b = gone.arguments.keras_tensors
        (total,) = gone.outputs
        self._set(node, "arguments", type(node.arguments)(a, residual=b))
        self._set(node, "outputs", [*node.outputs, total])
        self._give(total, norm, 1)
        takers = [each for each in add._outbound_nodes if each is not node]
        self._set(norm, "_outbound_nodes", [*norm._outbound_nodes, *takers])
        for tensor in (a, b):
            self._replace(tensor, gone, node)
        self.model._tracker.untrack(add)
        self._undo.append((self.model._tracker.track, add))
        self._map()

    def unfold(self, norm: Layer, add: Layer) -> None:
        """Makes a new Add take what a norm takes, and the norm take what that gives."""
        (node,) = norm._inbound_nodes
        a, b = node.arguments.keras_tensors
        y, total = node.outputs
        for tensor in (a, b):
            self._replace(tensor, node, None)
        add([a, b])
        (new,) = add._inbound_nodes
        self._set(new, "outputs", [total])
        self._give(total, add, 0)
        self._set(node, "arguments", type(node.arguments)(total))
        self._set(node, "outputs", [y])
        takers = [each for each in norm._outbound_nodes if _takes(each, total)]
        self._set(add, "_outbound_nodes", [node, *takers])
        takers = [each for each in norm._outbound_nodes if _takes(each, y)]
        self._set(norm, "_outbound_nodes", takers)
        self.model._tracker.track(add)
        self._undo.append((self.model._tracker.untrack, add))
        self._map()

    def restore(self) -> None:
        """Takes it back."""
        for target, name, value in reversed(self._kept):
            vars(target)[name] = value
        for undo, layer in self._undo:
            undo(layer)

    def _set(self, target: Any, name: str, value: Any) -> None:
        self._kept.append((target, name, vars(target)[name]))
        vars(target)[name] = value

    def _give(self, tensor: Any, layer: Layer, index: int) -> None:
        """Notes which layer gives a tensor."""
        history = tensor._keras_history
        history = history._replace(operation=layer, node_index=0, tensor_index=index)
        self._set(tensor, "_keras_history", history)

    def _replace(self, tensor: Any, node: Any, by: Any) -> None:
        """Notes that another node takes a tensor, or that one does no more."""
        giver = tensor._keras_history.operation
        nodes = list(giver._outbound_nodes)
        nodes.remove(node)
        self._set(giver, "_outbound_nodes", nodes if by is None else [*nodes, by])

    def _map(self) -> None:
        """Has Keras find its way through the graph again."""
        fresh = keras.Model(self.model.input, self.model.output)
        for name in _GRAPH:
            self._set(self.model, name, getattr(fresh, name))


def _takes(node: Any, tensor: Any) -> bool:
    return any(each is tensor for each in node.arguments.keras_tensors)
