"""The ops' inputs, outputs and attributes by name, where TensorFlow has flat lists.

What the ops take and give is said in `csrc/core/signature.h`, and comes from there
through `_native.signatures()`.

An `op` is here what gradient functions get: an operation of a graph, or what stands
for one on the eager tape.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterable
from typing import Any, NamedTuple

import tensorflow as tf


class _Op(NamedTuple):
    """Which norm and pass an op is, and its operands as `_native.signatures()` has."""

    kind: str
    which: str
    inputs: list[dict[str, Any]]
    outputs: list[dict[str, Any]]


@functools.cache
def _ops() -> dict[str, _Op]:
    # Here and not above, for a package without compiled libraries can be imported.
    try:
        from fusednorm import _native
    except ImportError as error:
        raise ImportError(
            "fusednorm's module fusednorm._native is missing or does not load. "
            "Reinstall the package; in a source checkout:\n"
            "    pip install --force-reinstall --no-deps .\n"
            f"Python says: {error}"
        ) from error

    def of_kind(operands: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
        return [each for each in operands if kind in each["norms"]]

    return {
        op: _Op(
            kind, which, of_kind(given["inputs"], kind), of_kind(given["outputs"], kind)
        )
        for which, given in _native.signatures().items()
        for kind, op in given["ops"].items()
    }


def op_types(which: str) -> list[str]:
    """Returns the types of the ops of "forward", "backward" or "second_order"."""
    return [op_type for op_type, op in _ops().items() if op.which == which]


def later_inputs() -> dict[str, list[str]]:
    """Returns the inputs that older callers do not know, by the wrapper of their op."""
    later = {
        f"fusednorm_{op.kind}" + "_grad" * op_type.count("Grad"): [
            each["name"] for each in op.inputs if each["came_later"]
        ]
        for op_type, op in _ops().items()
    }
    return {wrapper: names for wrapper, names in later.items() if names}


def kind_of(op: Any) -> str:
    """Returns "group_norm", "layer_norm" or "rms_norm", also for gradient ops."""
    return _ops()[op.type].kind


def input_names(op: Any) -> list[str]:
    """Returns the name of each input; inputs of one list share theirs."""
    return _flat(
        op, [(each["name"], each["length"]) for each in _ops()[op.type].inputs]
    )


def are_parameters(op: Any) -> list[bool]:
    """Returns of each input whether it has the shape of the parameters."""
    inputs = _ops()[op.type].inputs
    return _flat(op, [(each["part"] == "params", each["length"]) for each in inputs])


def _flat(op: Any, each_with_length: list[tuple[Any, str | None]]) -> list[Any]:
    """Repeats what is said of a list for each of its tensors."""
    return [
        each
        for each, length in each_with_length
        for _ in range(op.get_attr(length) if length else 1)
    ]


def _named(
    op: Any, operands: list[dict[str, Any]], values: Iterable[Any]
) -> dict[str, Any]:
    rest = iter(values)
    return {
        each["name"]: list(itertools.islice(rest, op.get_attr(each["length"])))
        if each["length"]
        else next(rest)
        for each in operands
    }


def named_inputs(op: Any, values: Iterable[Any]) -> dict[str, Any]:
    """Returns the inputs as the generated op wrappers take them.

    Args:
        op: The op.
        values: A value for each of its inputs: `op.inputs`, or what replaces them.
    """
    return _named(op, _ops()[op.type].inputs, values)


def named_outputs(op: Any, values: Iterable[Any]) -> dict[str, Any]:
    """Returns the same of the outputs, as the generated op wrappers return them.

    Args:
        op: The op.
        values: A value for each of its outputs: `op.outputs`, or their gradients.
    """
    return _named(op, _ops()[op.type].outputs, values)


def of_gradient_op(op: Any, values: dict[str, Any]) -> dict[str, Any]:
    """Returns those of the values by name that the gradient op of an op takes."""
    return {
        each["name"]: values[each["name"]] for each in _ops()[f"{op.type}Grad"].inputs
    }


def of_inputs(op: Any, values: dict[str, Any], prefix: str) -> list[Any]:
    """Returns a value for each input: that of its name with a prefix, else `None`.

    Args:
        op: The op.
        values: By name, a value, or a list of them for an input that is one.
        prefix: What stands before the names of inputs in those of values.
    """
    found = []
    for operand in _ops()[op.type].inputs:
        value = values.get(prefix + operand["name"])
        if not operand["length"]:
            found.append(value)
        elif value is not None:
            found += value
        else:
            found += [None] * op.get_attr(operand["length"])
    return found


def attributes(op: Any) -> dict[str, Any]:
    """Returns the attributes that the ops of all orders have in common.

    Those of the second order have no activation and no parameters per position.
    """
    own = ("groups", "axis") if kind_of(op) == "group_norm" else ("axes",)
    common = ("epsilon", "epsilon_low", "zero_centered", "per_sample")
    values = {name: op.get_attr(name) for name in (*common, *own)}
    if _ops()[op.type].which == "second_order":
        return values
    return values | {
        "activation": tf.compat.as_str(op.get_attr("activation")),
        "per_position": op.get_attr("per_position"),
    }
