"""First-order gradients of the fused ops. Imported when the library is loaded."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from fusednorm._library import load_op_library

_COMMON = ("epsilon", "epsilon_low", "activation", "zero_centered")


def _backward(
    kind: str, op: Any, output_gradients: tuple[Any, ...], *attributes: str
) -> list[tf.Tensor]:
    """Calls the gradient op of one forward op.

    Args:
        kind: "group_norm", "layer_norm" or "rms_norm".
        op: The forward op, or what stands for it on the eager tape.
        output_gradients: One per output; `None` where nothing depends on it.
        *attributes: The attributes that only this op has.

    Returns:
        One gradient per input of the forward op.
    """
    centred = kind != "rms_norm"
    lists = ("gamma", "beta", "residual") if centred else ("gamma", "residual")
    x, *rest = op.inputs
    inputs = {}
    for name in lists:
        count = op.get_attr(f"num_{name}")
        inputs[name], rest = rest[:count], rest[count:]
    has_residual = bool(inputs.pop("residual"))

    outputs = list(op.outputs)
    gradients = [
        tf.zeros_like(output) if gradient is None else gradient
        for output, gradient in zip(outputs, output_gradients, strict=True)
    ]
    statistics = ("mean", "rstd") if centred else ("rstd",)
    first = 1 + has_residual
    for name, value, gradient in zip(
        statistics, outputs[first:], gradients[first:], strict=True
    ):
        inputs[name] = value
        inputs[f"d{name}"] = gradient

    # With a residual what was normalized is the sum, which is also an output.
    dx, *parameter_gradients = getattr(load_op_library(), f"fusednorm_{kind}_grad")(
        dy=gradients[0],
        x=outputs[1] if has_residual else x,
        dsum=gradients[1:first],
        name=f"{kind}_grad",
        **inputs,
        **{name: op.get_attr(name) for name in (*_COMMON, *attributes)},
    )
    flat = [gradient for each in parameter_gradients for gradient in each]
    return [dx, *flat, *([dx] if has_residual else [])]


@tf.RegisterGradient("Fusednorm>GroupNorm")
def _group_norm_gradient(op: Any, *output_gradients: Any) -> list[tf.Tensor]:
    return _backward("group_norm", op, output_gradients, "groups", "axis")


@tf.RegisterGradient("Fusednorm>LayerNorm")
def _layer_norm_gradient(op: Any, *output_gradients: Any) -> list[tf.Tensor]:
    return _backward("layer_norm", op, output_gradients, "axes")


@tf.RegisterGradient("Fusednorm>RMSNorm")
def _rms_norm_gradient(op: Any, *output_gradients: Any) -> list[tf.Tensor]:
    return _backward("rms_norm", op, output_gradients, "axes")
