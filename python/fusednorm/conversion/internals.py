"""What the conversion knows of the inside of Keras 3 and tf_keras, in one place.

A layer is replaced by changing its class. The object stays the same, and so everything
that refers to it goes on as before: the graphs of functional models, lists and dicts of
layers, layers that are shared, variables, the optimizer's slots for them, callbacks.

All private attributes of Keras that conversions use stand here, checked with Keras
3.15.1 and tf_keras 2.21.0. With Keras 3.12.0 and 3.13.2 too, where fewer sums go into
norms: graphs order their layers in another way there, and more sums would change the
order of weights. tests/test_convert_internals.py says which attribute a Keras has lost.
"""

from __future__ import annotations

import functools
import inspect
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import tensorflow as tf

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
# What a functional model of Keras 3 knows of its graph.
_GRAPH = ("_nodes", "_nodes_by_depth", "_operations", "_operations_by_depth")


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


def copy_of(layer: Layer) -> Layer:
    """Returns a layer like a built one, of the same variables, which nothing tracks."""
    copy = type(layer).from_config(layer.get_config())
    for name, value in vars(layer).items():
        if name not in _BOUND and not _of_object(name):
            vars(copy)[name] = value
    copy.built = True
    return copy


def become(layer: Layer, model: Layer) -> None:
    """Makes a built layer what its twin is, but for its weights and its place."""
    weights = {id(weight) for weight in model.weights}
    wrapped = {id(_bare(weight)): weight for weight in layer.weights}
    object.__setattr__(layer, "__class__", type(model))
    for name in (*_BOUND, "on_integers"):  # The latter only ours have.
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


def variables(layer: Layer) -> list[Any]:
    """Returns the variables of a layer, with those of the layers in it.

    A model of tf_keras that is not built has none that it tells.
    """
    if LEGACY and isinstance(layer, keras.Model) and not layer.built:
        return []
    return layer.variables


def tensorflow_variable(variable: Any) -> tf.Variable:
    """Returns the variable of TensorFlow that a variable of Keras is."""
    return variable if isinstance(variable, tf.Variable) else variable.value


def global_variables() -> list[tf.Variable]:
    """Returns what `keras.random` draws from where it is given no seed, in Keras 3."""
    if LEGACY:
        return []
    from keras.src.backend.common import global_state

    generator = global_state.get_global_attribute("global_seed_generator")
    return [] if generator is None else [tensorflow_variable(generator.state)]


def everything(layer: Layer) -> list[Layer]:
    """Returns a layer and all that are within it."""
    return list(layer._flatten_layers())


def sublayers(layer: Layer) -> list[Layer]:
    """Returns the layers that a layer or model holds itself."""
    return list(layer._flatten_layers(recursive=False, include_self=False))


def _layer_of(node: Any) -> Layer:
    return node.layer if LEGACY else node.operation


def given(layer: Layer, name: str) -> list[Any]:
    """Returns an argument of each of a layer's calls in graphs, `None` if not given."""
    return [_argument(layer, node, name) for node in layer._inbound_nodes]


def _argument(layer: Layer, node: Any, name: str) -> Any:
    args, kwargs = (
        (node.call_args, node.call_kwargs)
        if LEGACY
        else (node.arguments.args, node.arguments.kwargs)
    )
    signature = inspect.signature(type(layer).call)
    return signature.bind_partial(layer, *args, **kwargs).arguments.get(name)


def input_dtypes(layer: Layer) -> set[str]:
    """Returns the dtypes of the tensors that a layer is called with in graphs."""
    tensors = [each for node in layer._inbound_nodes for each in _tensors(node)]
    return {tf.as_dtype(each.dtype).name for each in tensors}


def _tensors(node: Any) -> list[Any]:
    """Returns the symbolic tensors that a node of a graph takes."""
    if LEGACY:
        return tf.nest.flatten(node.keras_inputs)
    return node.arguments.keras_tensors


def tensors_of_only_call(layer: Layer) -> list[Any]:
    """Returns what a layer's call takes, if there is one, on nothing but tensors."""
    if len(layer._inbound_nodes) != 1:
        return []
    arguments = layer._inbound_nodes[0].arguments
    if any(value is not None for value in arguments.kwargs.values()):
        return []
    return arguments.keras_tensors


def is_called_once(layer: Layer) -> bool:
    """Tells whether graphs have no more than one call of a layer."""
    return len(layer._inbound_nodes) <= 1


def has_mask(tensor: Any) -> bool:
    """Tells whether a symbolic tensor comes with a mask."""
    return getattr(tensor, "_keras_mask", None) is not None


def gets_mask(layer: Layer) -> bool:
    """Tells whether a mask comes to any of a layer's calls in graphs."""
    inputs = (tensor for node in layer._inbound_nodes for tensor in _tensors(node))
    has_given = any(mask is not None for mask in given(layer, "mask"))
    return has_given or any(map(has_mask, inputs))


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
    """Drops the functions that `fit` and its like have traced with other layers.

    Also that of `generate`, which KerasHub's language models have.
    """
    for each in models(model):
        for name in ("train", "test", "predict", "train_tf", "generate"):
            if hasattr(each, f"{name}_function"):
                setattr(each, f"{name}_function", None)
        if not LEGACY and each.compiled:
            # Asks the layers whether they support it, as `compile` did.
            each.jit_compile = each.jit_compile


@dataclass
class Rewiring:
    """A change of one model's graph of Keras 3, which can be taken back."""

    model: Layer
    _kept: list[tuple[Any, str, Any]] = field(default_factory=list)
    _undo: list[tuple[Callable[[Layer], None], Layer]] = field(default_factory=list)
    _tracked: list[Layer] = field(default_factory=list)

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
        self._tracked = list(self.model._layers)
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
        self._tracked = list(self.model._layers)
        self.model._tracker.track(add)
        self._undo.append((self.model._tracker.untrack, add))
        self._map()

    def restore(self) -> None:
        """Takes it back."""
        for target, name, value in reversed(self._kept):
            vars(target)[name] = value
        for undo, layer in self._undo:
            undo(layer)
            # What is tracked again has come to the end.
            self.model._layers[:] = self._tracked

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
        # By this name, so that no other model gets another one.
        fresh = keras.Model(self.model.input, self.model.output, name="fresh")
        for name in _GRAPH:
            self._set(self.model, name, getattr(fresh, name))


def _takes(node: Any, tensor: Any) -> bool:
    return any(each is tensor for each in node.arguments.keras_tensors)
