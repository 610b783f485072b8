"""What the conversion knows of the inside of Keras 3 and tf_keras, in one place.

A layer is replaced by changing its class. The object stays the same, and so everything
that refers to it goes on as before: the graphs of functional models, lists and dicts of
layers, layers that are shared, variables, the optimizer's slots for them, callbacks.
"""

from __future__ import annotations

import functools
import inspect
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from fusednorm._keras import LEGACY, keras

Layer = keras.layers.Layer

# Of the attributes that every layer has, those that depend on its class; the other ones
# belong to the object. Those that cache the signature of `call` start with `_call_`.
_OF_CLASS = frozenset(
    (
        "_auto_config",
        "_autocast",
        "_input_spec",
        "_supports_masking",
        "autocast",
        "call_signature_parameters",
        "supports_jit",
    )
)
# Wrapped for each object by Layer.__new__ of Keras 3, around the methods of the class
# it is made of. A layer that is built can do with the methods themselves.
_BOUND = ("build", "quantize")


@functools.lru_cache(maxsize=1)
def _of_every_layer() -> frozenset[str]:
    return frozenset(vars(Layer(name="plain")))


def _of_object(name: str) -> bool:
    if name in _OF_CLASS or name.startswith("_call_"):
        return False
    return name in _of_every_layer() or name.startswith("_self_")


@dataclass(frozen=True)
class Snapshot:
    """A layer as it was."""

    layer: Layer
    cls: type
    attributes: dict[str, Any]
    autocast: list[bool]
    calls: list[Any]  # In graphs; of Keras 3.

    @classmethod
    def of(cls, layer: Layer) -> Snapshot:
        """Takes a snapshot."""
        autocast = [getattr(weight, "_autocast", False) for weight in layer.weights]
        calls = [] if LEGACY else [node.arguments for node in layer._inbound_nodes]
        return cls(layer, type(layer), dict(vars(layer)), autocast, calls)

    def restore(self) -> None:
        """Makes the layer what it was."""
        object.__setattr__(self.layer, "__class__", self.cls)
        vars(self.layer).clear()
        vars(self.layer).update(self.attributes)
        for weight, autocast in zip(self.layer.weights, self.autocast, strict=True):
            _set_autocast(weight, autocast)
        # Of as many calls as there were, in a graph that may have more by now.
        for node, call in zip(self.layer._inbound_nodes, self.calls, strict=False):
            node.arguments = call


def twin(layer: Layer, cls: type, config: dict[str, Any]) -> Layer:
    """Returns a layer of another class, built for the same input.

    Raises:
        ValueError: if there is none, or its weights are not those of `layer`.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # What they warn of, the user has been told.
        made = cls.from_config(config)
    made.build(build_shape(layer))
    has, would_have = (_weight_shapes(each) for each in (layer, made))
    if has != would_have:
        raise ValueError(f"has the weights {has}, not {would_have}")
    return made


def become(layer: Layer, model: Layer) -> None:
    """Makes a built layer what its twin is, but for its weights and its place."""
    weights = {id(weight) for weight in model.weights}
    wrapped = {id(_bare(weight)): weight for weight in layer.weights}
    object.__setattr__(layer, "__class__", type(model))
    for name in _BOUND:
        vars(layer).pop(name, None)
    for name, value in vars(model).items():
        if id(value) in weights:
            weight = _bare(vars(layer)[name])
            casts = _bare(value) is not value
            vars(layer)[name] = wrapped[id(weight)] if casts else weight
        elif name not in _BOUND and not _of_object(name):
            # Lists come wrapped, with a reference to the twin.
            vars(layer)[name] = list(value) if isinstance(value, list) else value
    for weight, like in zip(layer.weights, model.weights, strict=True):
        _set_autocast(weight, getattr(like, "_autocast", False))
    if not LEGACY and not layer._call_has_mask_arg:
        _call_without_mask(layer)


def _call_without_mask(layer: Layer) -> None:
    """Takes the mask out of a layer's calls in graphs, where Keras has noted it."""
    for node in layer._inbound_nodes:
        call = node.arguments
        if "mask" in call.kwargs:
            kwargs = {name: v for name, v in call.kwargs.items() if name != "mask"}
            node.arguments = type(call)(*call.args, **kwargs)


def _set_autocast(weight: Any, autocast: bool) -> None:
    if hasattr(weight, "_autocast"):
        weight._autocast = autocast


def _bare(weight: Any) -> Any:
    """Returns the variable in what tf_keras wraps around one for automatic casts."""
    return getattr(weight, "_variable", weight) if LEGACY else weight


def _weight_shapes(layer: Layer) -> dict[str, tuple[int, ...]]:
    shapes = {id(_bare(weight)): tuple(weight.shape) for weight in layer.weights}
    values = {name: id(_bare(value)) for name, value in vars(layer).items()}
    return {name: shapes[each] for name, each in values.items() if each in shapes}


def build_shape(layer: Layer) -> tuple[int | None, ...]:
    """Returns the shape of the input that a layer was built for.

    Raises:
        ValueError: if the layer does not know.
    """
    shape = (layer.get_build_config() or {}).get("input_shape")
    if shape is None:
        raise ValueError("the shape that it was built for is not known")
    return tuple(shape)


def everything(layer: Layer) -> list[Layer]:
    """Returns a layer and all that are within it."""
    return list(layer._flatten_layers())


def sublayers(layer: Layer) -> list[Layer]:
    """Returns the layers that a layer or model holds itself."""
    return list(layer._flatten_layers(recursive=False, include_self=False))


def _layer_of(node: Any) -> Layer:
    return node.layer if LEGACY else node.operation


def argument(layer: Layer, node: Any, name: str) -> Any:
    """Returns an argument of a layer's call in a graph, `None` if it is not given."""
    args, kwargs = (
        (node.call_args, node.call_kwargs)
        if LEGACY
        else (node.arguments.args, node.arguments.kwargs)
    )
    signature = inspect.signature(type(layer).call)
    return signature.bind_partial(layer, *args, **kwargs).arguments.get(name)


def consumers(layer: Layer) -> list[Any]:
    """Returns the layers and operations of all graphs that take the layer's output."""
    return [_layer_of(node) for node in layer._outbound_nodes]


def producers(layer: Layer) -> list[Any]:
    """Returns the layers and operations of all graphs whose output the layer takes."""
    nodes = layer._inbound_nodes
    return [_layer_of(parent) for node in nodes for parent in node.parent_nodes]


def is_graph(model: Layer) -> bool:
    """Tells whether what a model computes is all in its graph of layers."""
    call_of, package_of = (
        each.__module__.partition(".")[0] for each in (type(model).call, keras.Model)
    )
    return bool(getattr(model, "outputs", None)) and call_of == package_of


def output_layers(model: Layer) -> list[Any]:
    """Returns the layers whose outputs are outputs of a graph."""
    return [tensor._keras_history[0] for tensor in model.outputs]


def models(model: Layer) -> Iterator[Layer]:
    """Yields a model and those within it."""
    yield from (each for each in everything(model) if isinstance(each, keras.Model))


def forget_traces(model: Layer) -> None:
    """Drops the functions that `fit` and its like have traced with other layers."""
    for each in models(model):
        for name in ("train", "test", "predict", "train_tf"):
            if hasattr(each, f"{name}_function"):
                setattr(each, f"{name}_function", None)
        if not LEGACY and each.compiled:
            # Asks the layers whether they support it, as `compile` did.
            each.jit_compile = each.jit_compile
