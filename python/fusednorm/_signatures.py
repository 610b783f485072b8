"""The ops' inputs and attributes by name, where TensorFlow has them in flat lists.

An `op` is here what gradient functions get: an operation of a graph, or what stands
for one on the eager tape.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import tensorflow as tf

# The name in the graph -> the name in Python.
KINDS = {
    "Fusednorm>GroupNorm": "group_norm",
    "Fusednorm>LayerNorm": "layer_norm",
    "Fusednorm>RMSNorm": "rms_norm",
}

_FORWARD = ("x", "gamma", "beta", "residual", "mask")
_BACKWARD = (
    *("dy", "x", "mean", "rstd", "gamma", "beta", "dsum", "dmean", "drstd"),
    "mask",
)
_SECOND_ORDER = (
    *("dy", "x", "mean", "rstd", "gamma", "drstd"),
    *("ddx", "ddgamma", "ddbeta"),
)
# Inputs that not all kinds have -> the kinds that have them.
_CENTRED = ("group_norm", "layer_norm")
_ONLY_OF = {
    "beta": _CENTRED,
    "mean": _CENTRED,
    "dmean": _CENTRED,
    "ddbeta": _CENTRED,
    "mask": ("group_norm",),
}
# Inputs that are lists -> the attribute with their length.
_LENGTHS = {
    "gamma": "num_gamma",
    "beta": "num_beta",
    "residual": "num_residual",
    "dsum": "num_residual",
    "mask": "num_mask",
    "ddgamma": "num_ddgamma",
    "ddbeta": "num_ddbeta",
}


def kind_of(op: Any) -> str:
    """Returns "group_norm", "layer_norm" or "rms_norm", also for gradient ops."""
    return KINDS[op.type.partition("Grad")[0]]


def _names(op: Any) -> list[str]:
    names = (_FORWARD, _BACKWARD, _SECOND_ORDER)[op.type.count("Grad")]
    kind = kind_of(op)
    return [name for name in names if kind in _ONLY_OF.get(name, (kind,))]


def input_names(op: Any) -> list[str]:
    """Returns the name of each input; inputs of one list share theirs."""
    return [
        name
        for name in _names(op)
        for _ in range(op.get_attr(_LENGTHS[name]) if name in _LENGTHS else 1)
    ]


def named_inputs(op: Any, values: Iterable[Any]) -> dict[str, Any]:
    """Returns the inputs as the generated op wrappers take them.

    Args:
        op: The op.
        values: A value for each of its inputs: `op.inputs`, or what replaces them.
    """
    inputs = {name: [] if name in _LENGTHS else None for name in _names(op)}
    for name, value in zip(input_names(op), values, strict=True):
        if name in _LENGTHS:
            inputs[name].append(value)
        else:
            inputs[name] = value
    return inputs


def attributes(op: Any) -> dict[str, Any]:
    """Returns the attributes that the ops of all orders have in common.

    Those of the second order have no activation and no parameters per position.
    """
    own = ("groups", "axis") if kind_of(op) == "group_norm" else ("axes",)
    common = ("epsilon", "epsilon_low", "zero_centered", "per_sample")
    values = {name: op.get_attr(name) for name in (*common, *own)}
    if op.type.endswith("GradGrad"):
        return values
    return values | {
        "activation": tf.compat.as_str(op.get_attr("activation")),
        "per_position": op.get_attr("per_position"),
    }
