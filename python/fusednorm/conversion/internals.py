"""What the conversion knows of the inside of Keras 3 and tf_keras, in one place.

A layer is replaced by changing its class. The object stays the same, and so everything
that refers to it goes on as before: the graphs of functional models, lists and dicts of
layers, layers that are shared, variables, the optimizer's slots for them, callbacks.

All private attributes of Keras that conversions use stand here, checked with Keras
3.15.1 and tf_keras 2.21.0. With Keras 3.12.0 and 3.13.2 too, where fewer sums go into
norms: graphs order their layers in another way there, and more sums would change the
order of weights. tests/conversion/test_convert_internals.py says which attribute a
Keras has lost.
"""

from __future__ import annotations

import copy
import functools
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType, ModuleType
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
_SAME: Mapping[str, str] = MappingProxyType({})
# What a functional model of Keras 3 knows of its graph.
_GRAPH = ("_nodes", "_nodes_by_depth", "_operations", "_operations_by_depth")

# The arguments of a norm's call that are tensors which gradients go to.
_TENSORS = ("inputs", "residual", "gamma", "beta")


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


def build_as(
    twin: Layer, layer: Layer, weights: Mapping[str, str], shape: Sequence[int | None]
) -> None:
    """Builds a layer that is to take the place of another one, and its weights.

    Args:
        twin: The layer to build.
        layer: The other one.
        weights: The twin's names of weights where they differ, each with the layer's.
        shape: The shape of the input to build it for.

    Raises:
        ValueError: if its weights are not those of `layer`.
    """
    twin.build(shape)
    has = _weight_shapes(layer)
    would_have = {
        weights.get(name, name): shape for name, shape in _weight_shapes(twin).items()
    }
    if has != would_have:
        raise ValueError(f"has the weights {has}, not {would_have}")


def copy_of(layer: Layer) -> Layer:
    """Returns a layer like a built one, of the same variables, which nothing tracks."""
    copy = type(layer).from_config(layer.get_config())
    for name, value in vars(layer).items():
        if name not in _BOUND and not _of_object(name):
            vars(copy)[name] = value
    copy.built = True
    return copy


def in_float64(cls: type, config: dict[str, Any], like: Layer) -> Layer:
    """Returns a norm of Keras's that computes in float64.

    Args:
        cls: Its class.
        config: Its configuration, in another dtype.
        like: A layer with its weights, under the same names.
    """
    copy = cls.from_config({**config, "dtype": "float64"})
    copy.build(build_shape(like))
    for name in _weight_shapes(copy):
        value = tensorflow_variable(_bare(getattr(like, name)))
        getattr(copy, name).assign(tf.cast(value, "float64"))
    return copy


def copy_with_weights(layer: Layer) -> Layer:
    """Returns a layer like a built one, with weights of its own, which are zero.

    They are its attributes; what tracks them is the other layer's.
    """
    own = {
        id(weight): keras.Variable(
            "zeros",
            shape=weight.shape,
            dtype=weight.dtype,
            autocast=getattr(weight, "_autocast", False),
        )
        for weight in layer.weights
    }
    attributes = {n: own.get(id(value), value) for n, value in vars(layer).items()}
    return _with(type(layer), attributes)


def _with(cls: type, attributes: dict[str, Any]) -> Layer:
    """Returns a layer of these attributes, which was never initialized."""
    layer = object.__new__(cls)
    vars(layer).update(attributes)
    return layer


def after_build(layer: Layer, then: Callable[[], None]) -> None:
    """Has a new layer of Keras 3 call a function when it has been built, once."""
    build = vars(layer)["build"]

    @functools.wraps(build)
    def build_and_then(*args: Any, **kwargs: Any) -> None:
        build(*args, **kwargs)
        vars(layer)["build"] = build
        then()

    vars(layer)["build"] = build_and_then


def become(
    layer: Layer,
    model: Layer,
    names: Mapping[str, str] = _SAME,
    cls: type | None = None,
) -> None:
    """Makes a built layer what its twin is, but for its weights and its place.

    Args:
        layer: The layer.
        model: The twin.
        names: The twin's names of weights where they differ, each with the layer's. By
            that name there is the weight, too, as what holds the layer may use it.
        cls: The layer's new class, if it is not that of the twin.
    """
    weights = {id(weight) for weight in model.weights}
    wrapped = {id(_bare(weight)): weight for weight in layer.weights}
    object.__setattr__(layer, "__class__", cls or type(model))
    for name in (*_BOUND, "on_integers", "origin"):  # The latter two only ours have.
        vars(layer).pop(name, None)
    for name, value in vars(model).items():
        if id(value) in weights:
            weight = _bare(vars(layer)[names.get(name, name)])
            casts = _bare(value) is not value
            vars(layer)[name] = wrapped[id(weight)] if casts else weight
        elif name not in _BOUND and not _of_object(name):
            # Lists come wrapped, with a reference to the twin.
            vars(layer)[name] = list(value) if isinstance(value, list) else value
    for weight, like in zip(layer.weights, model.weights, strict=True):
        _set_autocast(weight, getattr(like, "_autocast", False))
    if _dtypes(layer) != _dtypes(model):
        # As for a class whose outputs are float32, whatever it computes in.
        layer._dtype_policy = model._dtype_policy
    if not LEGACY and not layer._call_has_mask_arg:
        _call_without_mask(layer)


def _dtypes(layer: Layer) -> tuple[str, str]:
    return layer.compute_dtype, layer.variable_dtype


@dataclass(frozen=True)
class Origin:
    """What a layer of ours was, if only it itself can tell.

    Attributes:
        snapshot: The layer then.
        shape: The shape of what it takes.
    """

    snapshot: Snapshot
    shape: tuple[int | None, ...]

    def attributes(self, layer: Layer) -> dict[str, Any]:
        """Returns what the attributes of the layer would be, if it were that again.

        Unlike `Snapshot.restore`, this keeps what has been done since to what every
        layer has: `trainable`, names, calls in graphs.
        """
        now = {name: value for name, value in vars(layer).items() if _of_object(name)}
        then = {
            name: value
            for name, value in self.snapshot.attributes.items()
            if not _of_object(name) or name in (*_BOUND, "_dtype_policy")
        }
        return now | then

    def become(self, layer: Layer) -> None:
        """Makes a layer that again, but for its weights and its place."""
        attributes = self.attributes(layer)
        object.__setattr__(layer, "__class__", self.snapshot.cls)
        vars(layer).clear()
        vars(layer).update(attributes)
        for weight, autocast in zip(layer.weights, self.snapshot.autocast, strict=True):
            _set_autocast(weight, autocast)

    def config(self, layer: Layer) -> dict[str, Any]:
        """Returns the configuration that the layer would have."""
        return _with(self.snapshot.cls, self.attributes(layer)).get_config()


@functools.cache
def disguise(ours: type, theirs: type) -> type:
    """Returns a class of ours that files do not tell from another one.

    Files have the names of classes: a whole model those to make layers of, and weights
    those of the layers they belong to. A file of a model with a class that only a rule
    knows is one of that class: before and after the conversion, in both directions.
    """

    def get_config(self: Layer) -> dict[str, Any]:
        return self.origin.config(self)

    def from_config(cls: type, config: dict[str, Any]) -> Layer:
        return theirs.from_config(config)

    names = {each: getattr(theirs, each) for each in ("__module__", "__qualname__")}
    methods = {"get_config": get_config, "from_config": classmethod(from_config)}
    return type(theirs.__name__, (ours,), {**names, **methods, "__doc__": ours.__doc__})


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
    if getattr(layer, "origin", None) is not None:
        return layer.origin.shape
    # By the name of the only argument of `build`.
    shapes = list((layer.get_build_config() or {}).values())
    shape = shapes[0] if len(shapes) == 1 else None
    if shape is None or isinstance(shape, dict):
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


def function_of_norm(kind: str) -> tuple[ModuleType, str] | None:
    """Returns where Keras 3 looks up the function that computes a norm.

    All that computes it there calls this function: `keras.ops`, eager, traced, and from
    the nodes of functional models; and layers, with subclasses of them. Checked on
    Keras 3.15.1, which has it among its operations. A Keras with functions of its
    backends for that calls those.

    Args:
        kind: "layer_normalization" or "rms_normalization".

    Returns:
        The module and the function's name in it; `None` if this Keras has none, or
        computes with another library than TensorFlow.
    """
    if LEGACY or keras.backend.backend() != "tensorflow":
        return None
    from keras.src import backend
    from keras.src.ops import nn

    places = ((backend.nn, kind), (nn, f"_{kind}"))
    return next((place for place in places if hasattr(*place)), None)


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


def only_node(layer: Layer) -> Any:
    """Returns the node of the only call of a layer in graphs of Keras 3."""
    (node,) = layer._inbound_nodes
    return node


def operation(node: Any) -> Any:
    """Returns the layer or operation that a node of a graph of Keras 3 calls."""
    return node.operation


def results(node: Any) -> list[Any]:
    """Returns the symbolic tensors that a node gives."""
    return node.outputs


def is_in(operation: Any, model: Layer) -> bool:
    """Tells whether the graph of a model of Keras 3 has an operation."""
    return any(each is operation for each in model.operations)


def evaluated(node: Any, values: dict[int, Any]) -> Any:
    """Calls what a node calls, on values for its symbolic tensors, by their id."""
    args, kwargs = node.arguments.fill_in(values)
    return node.operation(*args, **kwargs)


@functools.lru_cache(maxsize=1)
def _kinds() -> dict[str, tuple[type, ...]]:
    from keras.src.ops import numpy

    layers = keras.layers
    return {
        "product": (layers.Multiply, numpy.Multiply),
        "sum": (layers.Add, numpy.Add),
    }


def _is_plain(operation: Any, kind: str) -> bool:
    """Tells whether an operation is a sum or product, called once, with no losses."""
    return (
        type(operation) in _kinds()[kind]
        and len(operation._inbound_nodes) == 1
        and getattr(operation, "activity_regularizer", None) is None
    )


def only_taker(tensor: Any, kind: str) -> Any:
    """Returns the only node that takes a symbolic tensor, if it is of a kind.

    Args:
        tensor: The tensor, given by a layer or operation that is called once.
        kind: "product" or "sum": as a layer of two inputs or an operation.
    """
    giver = tensor._keras_history.operation
    takers = [each for each in giver._outbound_nodes if _takes(each, tensor)]
    if len(takers) != 1 or not _is_plain(takers[0].operation, kind):
        return None
    return takers[0]


def other_input(node: Any, tensor: Any) -> Any:
    """Returns the one other symbolic tensor that a node takes, if it takes two."""
    others = [each for each in node.arguments.keras_tensors if each is not tensor]
    return others[0] if len(node.arguments.keras_tensors) == 2 and others else None


def one_plus(tensor: Any) -> tuple[Any, Any]:
    """Returns the node that makes a symbolic tensor by adding 1, and what it adds to.

    Two times `None` if it is made in another way, or with another shape or dtype.
    """
    history = tensor._keras_history
    node = history.operation._inbound_nodes[history.node_index]
    inputs = node.arguments.keras_tensors
    if len(inputs) != 1 or not _adds_one(node):
        return None, None
    same = (inputs[0].shape, inputs[0].dtype) == (tensor.shape, tensor.dtype)
    return (node, inputs[0]) if same else (None, None)


def _adds_one(node: Any) -> bool:
    operation = node.operation
    if type(operation) is keras.layers.Rescaling:
        return _is_one(operation.scale) and _is_one(operation.offset)
    if not _is_plain(operation, "sum") or isinstance(operation, Layer):
        return False
    arguments = (*node.arguments.args, *node.arguments.kwargs.values())
    return any(map(_is_one, arguments))


def _is_one(value: Any) -> bool:
    return isinstance(value, int | float) and value == 1


def depends_on(tensor: Any, node: Any) -> bool:
    """Tells whether a symbolic tensor is computed from what a node gives."""
    seen, waiting = set(), [tensor]
    while waiting:
        history = waiting.pop()._keras_history
        giver = history.operation._inbound_nodes[history.node_index]
        if giver is node:
            return True
        if id(giver) not in seen:
            seen.add(id(giver))
            waiting += giver.arguments.keras_tensors
    return False


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
        a, b = (_argument(norm, node, name) for name in ("inputs", "residual"))
        y, total = node.outputs
        for tensor in (a, b):
            self._replace(tensor, node, None)
        add([a, b])
        (new,) = add._inbound_nodes
        self._set(new, "outputs", [total])
        self._give(total, add, 0)
        arguments = _with_arguments(norm, node, inputs=total, residual=None)
        self._set(node, "arguments", arguments)
        self._set(node, "outputs", [y])
        takers = [each for each in norm._outbound_nodes if _takes(each, total)]
        self._set(add, "_outbound_nodes", [node, *takers])
        takers = [each for each in norm._outbound_nodes if _takes(each, y)]
        self._set(norm, "_outbound_nodes", takers)
        self._tracked = list(self.model._layers)
        self.model._tracker.track(add)
        self._undo.append((self.model._tracker.untrack, add))
        self._map()

    def take_over(
        self, norm: Layer, steps: list[Any], arguments: dict[str, Any]
    ) -> None:
        """Makes a norm give what the last of the nodes after it gives.

        Those nodes stay what they are, and so does the norm's, for other models that
        have them: there, what the norm needs now may be computed after it.

        Args:
            norm: A norm that is called once.
            steps: The nodes; only the first takes what the norm gives.
            arguments: What to call the norm with, too.
        """
        (node,) = norm._inbound_nodes
        (result,) = steps[-1].outputs
        self._renew(norm, [result, *node.outputs[1:]], **arguments)
        for step in steps:
            for tensor in step.arguments.keras_tensors:
                self._replace(tensor, step, None)
        takers = steps[-1].operation._outbound_nodes
        self._give(result, norm, 0)
        self._set(norm, "_outbound_nodes", [*norm._outbound_nodes, *takers])
        before = self.model.layers
        self._map()
        # Also a layer that has only made the scale of what the norm takes now.
        reached = {id(each) for each in self.model.layers}
        self._track([], [each for each in before if id(each) not in reached])

    def give_back(
        self, norm: Layer, gamma: Any, beta: Any, layers: list[Layer]
    ) -> None:
        """Makes new layers after a norm apply the scale and offset that it takes.

        Args:
            norm: A norm that is called once.
            gamma: The scale that it takes, or `None`.
            beta: The offset that it takes, or `None`.
            layers: The new layers, see `applied`.
        """
        (node,) = norm._inbound_nodes
        result, *others = node.outputs
        y = keras.KerasTensor(result.shape, dtype=result.dtype)
        y._keras_history = result._keras_history
        takers = [each for each in norm._outbound_nodes if _takes(each, result)]
        rest = [each for each in norm._outbound_nodes if not _takes(each, result)]
        self._set(norm, "_outbound_nodes", rest)
        self._renew(norm, [y, *others], gamma=None, beta=None, zero_centered=None)
        applied(layers, y, gamma, beta)
        (last,) = layers[-1]._inbound_nodes
        self._set(last, "outputs", [result])
        self._give(result, layers[-1], 0)
        self._set(layers[-1], "_outbound_nodes", takers)
        self._map()
        self._track(layers, [])

    def _renew(self, norm: Layer, outputs: list[Any], **changes: Any) -> None:
        """Gives a norm another node, with some other arguments, for its only one."""
        (node,) = norm._inbound_nodes
        new = copy.copy(node)
        new.outputs = outputs
        new.arguments = _with_arguments(norm, node, **changes)
        self._set(norm, "_inbound_nodes", [new])
        for tensor in node.arguments.keras_tensors:
            self._replace(tensor, node, None)
        for tensor in new.arguments.keras_tensors:
            giver = tensor._keras_history.operation
            self._set(giver, "_outbound_nodes", [*giver._outbound_nodes, new])

    def _track(self, more: list[Layer], fewer: list[Layer]) -> None:
        """Has the model hold more layers, and no more hold others."""
        self._tracked = list(self.model._layers)
        tracker = self.model._tracker
        for layers, do, undo in (
            (more, tracker.track, tracker.untrack),
            (fewer, tracker.untrack, tracker.track),
        ):
            for layer in layers:
                do(layer)
                self._undo.append((undo, layer))

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


def _with_arguments(norm: Layer, node: Any, **changes: Any) -> Any:
    """Returns the arguments of a norm's call with some of them changed.

    Tensors are positional: Keras goes through the graph in the order of arguments, and
    through named ones in that of their names.
    """
    names = list(inspect.signature(type(norm).call).parameters)[1:]
    values = {name: _argument(norm, node, name) for name in names} | changes
    given = {name: value for name, value in values.items() if value is not None}
    tensors = [name for name in names if name in given and name in _TENSORS]
    positional = names[: 1 + names.index(tensors[-1])]
    args = [given.pop(name, None) for name in positional]
    return type(node.arguments)(*args, **given)


def applied(layers: list[Layer], y: Any, gamma: Any, beta: Any) -> Any:
    """Returns what layers make of a tensor, a scale and an offset.

    Args:
        layers: As many of these as there is something to do for, in this order: one
            that makes the scale of `gamma`, a product, and a sum.
        y: The tensor.
        gamma: The scale, or what the first layer makes one of; or `None`.
        beta: The offset, or `None`.
    """
    for layer in layers:
        if type(layer) is keras.layers.Rescaling:
            gamma = layer(gamma)
        else:
            y = layer([y, gamma if type(layer) is keras.layers.Multiply else beta])
    return y


def _takes(node: Any, tensor: Any) -> bool:
    return any(each is tensor for each in node.arguments.keras_tensors)
