"""The bytes kept for the backward pass: by our layers, and by Keras's.

Counted in the graph that `tf.function` traces of a step: each tensor that was made
before the gradient and that the gradient reads, once. Not counted is what is there
anyway: weights, constants and the gradient that comes in. A tensor that only has
another name or shape (Identity, Reshape) is the one it was made of. x counts, for it
would be freed if the gradient did not read it, and so does y where it does (relu).
TensorFlow rewrites graphs before it runs them, and XLA more so: it may keep less.
"""

from __future__ import annotations

import math
from typing import Any

from fusednorm._doctor.cases import SMALL, Check, Places, data_of
from fusednorm.bench.cases import Case

DTYPES = ("float32", "bfloat16")
# Their result is their first input, or the input of the same number.
ALIASES = frozenset({"Identity", "Reshape", "ExpandDims", "Squeeze", "StopGradient",
                     "PreventGradient", "IdentityN"})  # fmt: skip
THERE_ANYWAY = frozenset({"Const", "ReadVariableOp"})


def check(places: Places) -> Check:
    """Returns a row for each shape and type, and what we keep beyond our promise."""
    from fusednorm.bench.competitors import tensorflow

    found = Check()
    if not places.devices:
        return found
    for dtype in DTYPES:
        for name in SMALL:
            data = data_of(name, dtype)
            tensors = tensorflow.Tensors(data, places.devices[0])
            kept = {
                who: kept_bytes(norm(tensors), tensors)
                for who, norm in (
                    ("fusednorm", tensorflow.ours),
                    ("Keras", tensorflow.keras),
                )
            }
            promised = data.case.tensor_bytes + statistics_bytes(data.case)
            found.rows.append(
                {
                    "shape": name,
                    "type": dtype,
                    "x": data.case.tensor_bytes,
                    **kept,
                    "Keras / fusednorm": kept["Keras"] / kept["fusednorm"],
                }
            )
            if kept["fusednorm"] > promised:
                found.problems.append(
                    f"{name} in {dtype} keeps {kept['fusednorm']:,} bytes for the "
                    f"backward pass, more than x and two numbers a group, {promised:,}."
                )
    found.notes.append(
        "Tensors that the gradient reads, in the graph as traced; x is one of them."
    )
    return found


def statistics_bytes(case: Case) -> int:
    """Returns the size of the mean and rstd of each group."""
    if case.shape.op == "group_norm":
        (channels,) = case.parameter_dims
        per_sample = channels if case.shape.groups == -1 else case.shape.groups
        groups = case.dims[0] * per_sample
    else:
        groups = case.elements // math.prod(case.parameter_dims)
    return 4 * groups * (2 if case.shape.centred else 1)


def kept_bytes(norm: Any, tensors: Any) -> int:
    """Returns the bytes that a norm's gradient reads of what was made before it.

    Args:
        norm: Of bench/competitors/tensorflow.py: a function and its variables.
        tensors: The tensors it works on.
    """
    import tensorflow as tf

    function, variables = norm
    kept: dict[Any, int] = {}

    @tf.function
    def step(x: Any, residual: Any, dy: Any, dsum: Any) -> Any:
        inputs = [x] if residual is None else [x, residual]
        seeds = [dy] if residual is None else [dy, dsum]
        with tf.GradientTape() as tape:
            tape.watch([*inputs, *variables])
            results = function(x, residual)
        graph = x.graph
        before = set(graph.get_operations())
        coming_in = {seed.ref() for seed in seeds}
        gradients = tape.gradient(
            results, [*inputs, *variables], output_gradients=_like(results, seeds)
        )
        for op in graph.get_operations():
            for tensor in () if op in before else op.inputs:
                made = _origin(tensor)
                if (
                    made.op in before
                    and made.op.type not in THERE_ANYWAY
                    and made.dtype is not tf.resource
                    and made.ref() not in coming_in
                ):
                    kept[made.ref()] = made.shape.num_elements() * made.dtype.size
        return gradients

    step.get_concrete_function(*tensors.sets[0])
    return sum(kept.values())


def _like(results: Any, seeds: list[Any]) -> Any:
    """Returns the gradients that come in, in the structure of the results."""
    return tuple(seeds) if isinstance(results, tuple) else seeds[0]


def _origin(tensor: Any) -> Any:
    """Returns the tensor that was computed, past those that are it."""
    while tensor.op.type in ALIASES:
        same = tensor.value_index if tensor.op.type == "IdentityN" else 0
        tensor = tensor.op.inputs[same]
    return tensor
