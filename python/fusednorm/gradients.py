"""Gradients of the ops and of their gradients. Imported when the library is loaded."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from fusednorm import _composition
from fusednorm._library import load_op_library
from fusednorm._signatures import (
    KINDS,
    attributes,
    input_names,
    kind_of,
    named_inputs,
)


def _gradient(op: Any, *output_gradients: Any) -> list[tf.Tensor]:
    """Calls the gradient op of a forward op.

    Args:
        op: The forward op, or what stands for it on the eager tape.
        *output_gradients: One per output; `None` where nothing depends on it.

    Returns:
        One gradient per input of the forward op.
    """
    kind = kind_of(op)
    inputs = named_inputs(op, op.inputs)
    has_residual = bool(inputs.pop("residual"))
    of_mask = [None for _ in inputs.get("mask", [])]
    outputs = list(op.outputs)
    gradients = [
        tf.zeros_like(output) if gradient is None else gradient
        for output, gradient in zip(outputs, output_gradients, strict=True)
    ]
    statistics = ("rstd",) if kind == "rms_norm" else ("mean", "rstd")
    first = 1 + has_residual
    for name, value, gradient in zip(
        statistics, outputs[first:], gradients[first:], strict=True
    ):
        inputs[name] = value
        inputs[f"d{name}"] = gradient
    # With a residual what was normalized is the sum, which is also an output.
    if has_residual:
        inputs["x"] = outputs[1]

    dx, *parameter_gradients = getattr(load_op_library(), f"fusednorm_{kind}_grad")(
        dy=gradients[0],
        dsum=gradients[1:first],
        name=f"{kind}_grad",
        **inputs,
        **attributes(op),
    )
    flat = [gradient for each in parameter_gradients for gradient in each]
    return [dx, *flat, *([dx] if has_residual else []), *of_mask]


def _second_order_gradient(op: Any, *output_gradients: Any) -> list[tf.Tensor | None]:
    """Calls the second-order op of a gradient op, or composes what it has no kernel of.

    That is, anything with an activation, parameters per position or a mask.

    The statistics are functions of x. What passes through them is part of the
    gradient of x, and their own gradients are `None`.

    Args:
        op: The gradient op, or what stands for it on the eager tape.
        *output_gradients: As for `_gradient`.

    Returns:
        One gradient per input of the gradient op, `None` where nothing depends on the
        input or the tape has said that it does not need it.
    """
    given = attributes(op)
    inputs = named_inputs(op, op.inputs)
    activation, per_position = given.pop("activation"), given.pop("per_position")
    if activation != "none" or per_position or inputs.pop("mask", []):
        return _composed_gradient(
            _composition.gradients.first_order, op, output_gradients
        )
    kind = kind_of(op)
    del inputs["dsum"]
    has_gamma = bool(inputs["gamma"])
    ddx, *rest = output_gradients
    inputs["ddgamma"] = [g for g in rest[:has_gamma] if g is not None]
    if kind != "rms_norm":
        del inputs["beta"], inputs["dmean"]
        inputs["ddbeta"] = [g for g in rest[has_gamma:] if g is not None]
    outputs = getattr(load_op_library(), f"fusednorm_{kind}_grad_grad")(
        ddx=tf.zeros_like(inputs["x"]) if ddx is None else ddx,
        name=f"{kind}_grad_grad",
        **inputs,
        **given,
    )
    gradients = {name.removeprefix("d_"): g for name, g in outputs._asdict().items()}
    gradients |= {"gamma": next(iter(gradients["gamma"]), None), "dsum": ddx}
    return [gradients.get(name) for name in input_names(op)]


def _third_order_gradient(op: Any, *output_gradients: Any) -> list[tf.Tensor | None]:
    """Differentiates the composition of a second-order op: all orders beyond follow."""
    return _composed_gradient(_composition.gradients.second_order, op, output_gradients)


def _composed_gradient(
    function: Callable[..., list[tf.Tensor]],
    op: Any,
    output_gradients: tuple[Any, ...],
) -> list[tf.Tensor | None]:
    """Differentiates the composition of an op by the inputs that are needed.

    Args:
        function: Computes the outputs of the op from its kind, inputs and attributes.
        op: The op, or what stands for it on the eager tape.
        output_gradients: One per output; `None` where nothing depends on it.

    Returns:
        As `_second_order_gradient`.
    """
    # Two inputs may be one tensor, x and dy say, and each needs a gradient of its own.
    values = [tf.identity(value) for value in op.inputs]
    unneeded = getattr(op, "skip_input_indices", None) or ()
    needed = [
        index
        for index, name in enumerate(input_names(op))
        if index not in unneeded and name not in ("mean", "rstd", "mask")
    ]
    gradients = _composition.gradients.differentiate(
        lambda: function(kind_of(op), named_inputs(op, values), attributes(op)),
        [values[index] for index in needed],
        list(output_gradients),
    )
    by_index = dict(zip(needed, gradients, strict=True))
    return [by_index.get(index) for index in range(len(values))]


for _type in KINDS:
    tf.RegisterGradient(_type)(_gradient)
    tf.RegisterGradient(f"{_type}Grad")(_second_order_gradient)
    tf.RegisterGradient(f"{_type}GradGrad")(_third_order_gradient)
