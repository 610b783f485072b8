"""tf.vectorized_map and GradientTape.jacobian over the ops, without a loop.

TensorFlow's `pfor` replaces each op in the body of a parallel loop by ops on all
iterations at once. Their inputs are stacked along a new first axis, or the same in
every iteration. Where gamma and beta are the same, one fused op serves all iterations:
the new axis is one more that is not normalized. Parameters of each iteration or each
sample, and their gradients for each iteration, go through the composition, whose ops
`pfor` knows.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from types import ModuleType
from typing import Any

import tensorflow as tf

from fusednorm import _composition
from fusednorm._signatures import (
    are_parameters,
    attributes,
    input_names,
    kind_of,
    named_inputs,
    op_types,
)

# Of inputs and attributes by name.
Function = Callable[[dict[str, Any], dict[str, Any]], list[tf.Tensor]]


def register(library: ModuleType) -> None:
    """Tells TensorFlow's `pfor` how to run the ops for all iterations at once.

    Args:
        library: The module of generated op wrappers.
    """
    # Private, for want of a public way to register. Without it TensorFlow loops over
    # the iterations, and says so.
    try:
        from tensorflow.python.ops.parallel_for.pfor import RegisterPFor, wrap
    except ImportError:
        return

    def convert(
        converter: Callable[[ModuleType, Any], list[tf.Tensor]], loop: Any
    ) -> list[Any]:
        return [wrap(each, True) for each in converter(library, loop)]

    for which, converter in (
        ("forward", _convert_norm),
        ("backward", _convert_gradient),
        ("second_order", _convert_second_order),
    ):
        for op_type in op_types(which):
            RegisterPFor(op_type)(functools.partial(convert, converter))


def _convert_norm(library: ModuleType, loop: Any) -> list[tf.Tensor]:
    """Returns the outputs of a forward op for all iterations."""
    kind = kind_of(loop.op)
    norms = _composition.norms if _has_many_parameters(loop) else library
    norm = getattr(norms, f"fusednorm_{kind}")

    def outputs(inputs: dict[str, Any], given: dict[str, Any]) -> list[tf.Tensor]:
        return tf.nest.flatten(tuple(norm(**inputs, **given, S=loop.get_attr("S"))))

    if norms is _composition.norms:
        return _composed(loop, outputs)
    return _fused(loop, outputs)


def _convert_gradient(library: ModuleType, loop: Any) -> list[tf.Tensor]:
    """Returns the outputs of a gradient op for all iterations."""
    kind = kind_of(loop.op)
    gradient = functools.partial(_composition.gradients.first_order, kind)
    if _has_many_parameters(loop):
        return _composed(loop, gradient)

    def dx(inputs: dict[str, Any], given: dict[str, Any]) -> list[tf.Tensor]:
        op = getattr(library, f"fusednorm_{kind}_grad")
        return [op(**inputs, **given).dx]

    # The fused op sums dgamma and dbeta over the iterations. Where nothing uses what is
    # computed instead, the graph is pruned of it.
    of_parameters = []
    if len(loop.outputs) > 1:
        of_parameters = _composed(loop, lambda *given: gradient(*given)[1:])
    return [*_fused(loop, dx), *of_parameters]


def _convert_second_order(library: ModuleType, loop: Any) -> list[tf.Tensor]:
    """Returns the outputs of a second-order op for all iterations."""
    kind = kind_of(loop.op)
    composed = functools.partial(_composition.gradients.second_order, kind)
    if _has_many_parameters(loop):
        return _composed(loop, composed)

    def but_of_gamma(inputs: dict[str, Any], given: dict[str, Any]) -> list[tf.Tensor]:
        op = getattr(library, f"fusednorm_{kind}_grad_grad")
        outputs = op(**inputs, **given)._asdict()
        return [value for name, value in outputs.items() if name != "d_gamma"]

    # As in _convert_gradient.
    of_gamma = []
    if "gamma" in input_names(loop.op):
        of_gamma = _composed(loop, lambda *given: composed(*given)[2:3])
    d_dy, d_x, *of_statistics = _fused(loop, but_of_gamma)
    return [d_dy, d_x, *of_gamma, *of_statistics]


def _has_many_parameters(loop: Any) -> bool:
    given = attributes(loop.op)
    if given["per_sample"] or given.get("per_position"):
        return True
    return any(
        value.is_stacked and is_parameter
        for is_parameter, value in zip(
            are_parameters(loop.op), loop.inputs, strict=True
        )
    )


def _composed(loop: Any, function: Function) -> list[tf.Tensor]:
    """Maps a function of TensorFlow's ops over what is stacked of the inputs."""
    inputs = list(loop.inputs)

    def iteration(stacked: list[tf.Tensor]) -> list[tf.Tensor]:
        of_iteration = iter(stacked)
        values = [next(of_iteration) if v.is_stacked else v.t for v in inputs]
        return function(named_inputs(loop.op, values), attributes(loop.op))

    return tf.vectorized_map(
        iteration, [v.t for v in inputs if v.is_stacked], fallback_to_while_loop=False
    )


def _fused(loop: Any, function: Function) -> list[tf.Tensor]:
    """Calls a function once, with the iterations as an axis beside the batch.

    All its inputs but the parameters, and all its outputs, have that axis.
    """
    has_batch = [not is_parameter for is_parameter in are_parameters(loop.op)]
    loop.stack_inputs([index for index, each in enumerate(has_batch) if each])
    values = [value.t for value in loop.inputs]
    given = attributes(loop.op)
    if "axes" in given:
        given["axes"] = [axis + 1 if axis >= 0 else axis for axis in given["axes"]]
        return function(named_inputs(loop.op, values), given)

    iterations_and_batch = tf.shape(values[0])[:2]
    batch = tf.reduce_prod(iterations_and_batch, keepdims=True)
    folded = [
        _with_first_axes(value, 2, batch) if each else value
        for value, each in zip(values, has_batch, strict=True)
    ]
    return [
        _with_first_axes(value, 1, iterations_and_batch)
        for value in function(named_inputs(loop.op, folded), given)
    ]


def _with_first_axes(x: tf.Tensor, count: int, sizes: tf.Tensor) -> tf.Tensor:
    """Replaces the first `count` axes of `x` by axes of the given sizes."""
    return tf.reshape(x, tf.concat([sizes, tf.shape(x)[count:]], 0))
