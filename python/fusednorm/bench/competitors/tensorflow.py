"""Layers in TensorFlow, ours and Keras's: in a graph or through XLA; ours eagerly."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from typing import Any

from fusednorm.bench.competitors.base import (
    EAGER,
    GRAPH,
    XLA,
    AbsentError,
    Competitor,
    Outputs,
)
from fusednorm.bench.data import Data, to_numpy
from fusednorm.bench.records import BUILTIN

# (x, residual or None) -> y, or (y, sum); and the variables, gamma and then beta.
Norm = tuple[Callable[[Any, Any], Any], Sequence[Any]]


class Tensors:
    """The sets of a case as tensors on a device."""

    def __init__(self, data: Data, device: str) -> None:
        import tensorflow as tf

        # It warns that functions are made in a loop: one for each competitor.
        tf.get_logger().setLevel("ERROR")
        self.data = data
        self.device = device

        def tensor(array: Any) -> Any:
            return None if array is None else tf.constant(to_numpy(array))

        with tf.device(device):
            self.sets = [
                tuple(map(tensor, (each.x, each.residual, each.dy, each.dsum)))
                for each in data.sets
            ]
            self.gamma, self.beta = tensor(data.gamma), tensor(data.beta)


def _policy(dtype: str) -> str:
    return dtype if dtype == "float32" else f"mixed_{dtype}"


def ours(tensors: Tensors) -> Norm:
    """Returns our layer; where there is a residual the function, which takes one."""
    import tensorflow as tf

    import fusednorm

    shape = tensors.data.case.shape
    if shape.residual:
        return _our_function(tensors, wrap=tf.Variable)
    options = {"epsilon": shape.epsilon, "activation": shape.activation}
    options["dtype"] = _policy(tensors.data.case.dtype)
    if options["activation"] == "none":
        options["activation"] = None
    return _layer(fusednorm, options, tensors)


def keras(tensors: Tensors) -> Norm:
    """Returns Keras's layer, its activation, and its addition of a residual."""
    from keras import activations, layers

    case = tensors.data.case
    options = {"epsilon": case.shape.epsilon, "dtype": _policy(case.dtype)}
    layer, variables = _layer(layers, options, tensors)
    activation = activations.get(
        None if case.shape.activation == "none" else case.shape.activation
    )

    def function(x: Any, residual: Any) -> Any:
        total = x if residual is None else x + residual
        y = activation(layer(total, None))
        return y if residual is None else (y, total)

    return function, variables


def tf_keras(tensors: Tensors) -> Norm:
    """Returns the LayerNormalization of Keras 2, on TensorFlow's fused batch norm."""
    case = tensors.data.case
    rank = len(case.dims)
    trailing = [axis % rank for axis in case.shape.axes] == [rank - 1]
    if case.shape.op != "layer_norm" or not trailing:
        raise AbsentError("fused in LayerNormalization over the last axis only")
    try:
        layers = importlib.import_module("tf_keras").layers
    except ImportError as error:
        raise AbsentError(f"missing: {error}") from error
    options = {"epsilon": case.shape.epsilon, "dtype": _policy(case.dtype)}
    return _layer(layers, options, tensors)


def _layer(module: Any, options: dict[str, Any], tensors: Tensors) -> Norm:
    """Returns the layer of a module that computes the case, with the case's weights."""
    import tensorflow as tf

    case = tensors.data.case
    (axis,) = case.shape.axes
    with tf.device(tensors.device):
        if case.shape.op == "group_norm":
            layer = module.GroupNormalization(
                groups=case.shape.groups, axis=axis, **options
            )
        elif case.shape.op == "layer_norm":
            layer = module.LayerNormalization(axis=axis, **options)
        else:
            layer = module.RMSNormalization(axis=axis, **options)
        layer.build(case.dims)
    weights = [
        each for each in (tensors.data.gamma, tensors.data.beta) if each is not None
    ]
    layer.set_weights(weights)
    variables = [getattr(each, "value", each) for each in layer.trainable_variables]
    # Keras 2's variables are TensorFlow's own, whose `value` is a method.
    variables = [
        raw if callable(value) else value
        for raw, value in zip(layer.trainable_variables, variables, strict=True)
    ]
    return (lambda x, residual: layer(x)), variables


def _our_function(tensors: Tensors, wrap: Callable[[Any], Any]) -> Norm:
    """Returns the functional API on gamma and beta as `wrap` makes them."""
    import tensorflow as tf

    import fusednorm

    shape = tensors.data.case.shape
    (axis,) = shape.axes
    options = {"axis": axis, "epsilon": shape.epsilon, "activation": shape.activation}
    if options["activation"] == "none":
        options["activation"] = None
    if shape.op == "group_norm":
        options["groups"] = shape.groups
    with tf.device(tensors.device):
        parameters = [
            wrap(each) for each in (tensors.gamma, tensors.beta) if each is not None
        ]
    norm = getattr(fusednorm, shape.op)

    def function(x: Any, residual: Any) -> Any:
        return norm(x, *parameters, residual=residual, **options)

    return function, parameters


def _passes(norm: Norm) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """Returns the forward pass, and forward and backward together."""
    import tensorflow as tf

    function, variables = norm

    def forward(x: Any, residual: Any) -> Any:
        return function(x, residual)

    def both(x: Any, residual: Any, dy: Any, dsum: Any) -> Any:
        inputs = [x] if residual is None else [x, residual]
        with tf.GradientTape() as tape:
            tape.watch([*inputs, *variables])
            results = function(x, residual)
        results = results if isinstance(results, tuple) else (results,)
        gradients = [dy] if residual is None else [dy, dsum]
        return results, tape.gradient(
            results, [*inputs, *variables], output_gradients=gradients
        )

    return forward, both


def _competitor(
    name: str, tensors: Tensors, forward: Callable[..., Any], both: Callable[..., Any]
) -> Competitor:
    sets = tensors.sets

    def outputs(results: Any) -> Outputs:
        (y, *total), gradients = results
        parameters = gradients[2:] if total else gradients[1:]
        arrays = [each.numpy() for each in parameters]
        return Outputs(
            y.numpy(),
            total[0].numpy() if total else None,
            gradients[0].numpy(),
            arrays[0],
            arrays[1] if len(arrays) > 1 else None,
        )

    return Competitor(
        name,
        lambda i: forward(sets[i][0], sets[i][1]),
        lambda i: both(*sets[i]),
        outputs=outputs,
    )


def in_graph(name: str, norm: Norm, tensors: Tensors, *, xla: bool) -> Competitor:
    """Returns a layer in a `tf.function`, as `fit()` calls it."""
    import tensorflow as tf

    passes = [tf.function(each, jit_compile=xla) for each in _passes(norm)]
    return _competitor(name, tensors, *passes)


def graph(tensors: Tensors) -> Competitor:
    """Returns our layer in a graph."""
    return in_graph(GRAPH, ours(tensors), tensors, xla=False)


def xla(tensors: Tensors) -> Competitor:
    """Returns our layer compiled by XLA."""
    import tensorflow as tf

    made = in_graph(XLA, ours(tensors), tensors, xla=True)
    try:
        with tf.device(tensors.device):
            made.forward(0)
    except (tf.errors.InvalidArgumentError, tf.errors.UnimplementedError) as error:
        raise AbsentError("no XLA kernels in this build") from error
    # Traces anew, so that the first call is still a first call.
    return in_graph(XLA, ours(tensors), tensors, xla=True)


def eager(tensors: Tensors) -> Competitor:
    """Returns our function called eagerly."""
    norm = _our_function(tensors, wrap=lambda tensor: tensor)
    return _competitor(EAGER, tensors, *_passes(norm))


def keras_eager(tensors: Tensors) -> Competitor:
    """Returns Keras's layer called eagerly."""
    return _competitor("keras-eager", tensors, *_passes(keras(tensors)))


def builtin(tensors: Tensors) -> Competitor:
    """Returns one built-in op called eagerly on the same tensor: what any op costs."""
    import tensorflow as tf

    if tensors.beta is None or tensors.data.case.shape.axes != (-1,):
        raise AbsentError("BiasAdd is along the last axis")
    with tf.device(tensors.device):
        bias = tf.cast(tensors.beta, tensors.sets[0][0].dtype)
    return Competitor(
        BUILTIN, lambda i: tf.raw_ops.BiasAdd(value=tensors.sets[i][0], bias=bias)
    )
