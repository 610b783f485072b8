"""Gradients of the ops and of their gradients."""

from __future__ import annotations

import functools
from collections.abc import Callable
from types import ModuleType
from typing import Any

import tensorflow as tf

from fusednorm import _composition
from fusednorm._signatures import (
    attributes,
    input_names,
    kind_of,
    named_inputs,
    named_outputs,
    of_gradient_op,
    of_inputs,
    op_types,
)


def register(library: ModuleType) -> None:
    """Tells TensorFlow the gradients of the ops.

    Args:
        library: The module of generated op wrappers.
    """
    for which, function in (
        ("forward", functools.partial(_gradient, library)),
        ("backward", functools.partial(_second_order_gradient, library)),
        ("second_order", _third_order_gradient),
    ):
        for op_type in op_types(which):
            tf.RegisterGradient(op_type)(function)


def _gradient(
    library: ModuleType, op: Any, *output_gradients: Any
) -> list[tf.Tensor | None]:
    """Calls the gradient op of a forward op.

    Args:
        library: The module of generated op wrappers.
        op: The forward op, or what stands for it on the eager tape.
        *output_gradients: One per output; `None` where nothing depends on it.

    Returns:
        One gradient per input of the forward op, `None` for a mask.
    """
    kind = kind_of(op)
    inputs = named_inputs(op, op.inputs)
    gradients = [
        tf.zeros_like(output) if gradient is None else gradient
        for output, gradient in zip(op.outputs, output_gradients, strict=True)
    ]
    known = {**inputs, **named_outputs(op, op.outputs)}
    known |= {f"d{name}": each for name, each in named_outputs(op, gradients).items()}
    # With a residual what was normalized is the sum.
    known["x"] = next(iter(known["sum"]), inputs["x"])
    found = getattr(library, f"fusednorm_{kind}_grad")(
        name=f"{kind}_grad", **of_gradient_op(op, known), **attributes(op)
    )._asdict()
    found["dresidual"] = [found["dx"] for _ in inputs["residual"]]
    return of_inputs(op, found, "d")


def _second_order_gradient(
    library: ModuleType, op: Any, *output_gradients: Any
) -> list[tf.Tensor | None]:
    """Calls the second-order op of a gradient op, or composes what it has no kernel of.

    That is, anything with an activation, parameters per position or a mask.

    The statistics are functions of x. What passes through them is part of the
    gradient of x, and their own gradients are `None`.

    Args:
        library: The module of generated op wrappers.
        op: The gradient op, or what stands for it on the eager tape.
        *output_gradients: As for `_gradient`.

    Returns:
        One gradient per input of the gradient op, `None` where nothing depends on the
        input or the tape has said that it does not need it.
    """
    given = attributes(op)
    known = named_inputs(op, op.inputs)
    activation, per_position = given.pop("activation"), given.pop("per_position")
    if activation != "none" or per_position or known.get("mask"):
        return _composed_gradient(
            _composition.gradients.first_order, op, output_gradients
        )
    kind = kind_of(op)
    of_outputs = named_outputs(op, output_gradients)
    ddx = of_outputs.pop("dx")
    known["ddx"] = tf.zeros_like(known["x"]) if ddx is None else ddx
    for name, of_list in of_outputs.items():
        known[f"d{name}"] = [each for each in of_list if each is not None]
    found = getattr(library, f"fusednorm_{kind}_grad_grad")(
        name=f"{kind}_grad_grad", **of_gradient_op(op, known), **given
    )._asdict()
    found["d_dsum"] = [ddx for _ in known["dsum"]]
    return of_inputs(op, found, "d_")


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
